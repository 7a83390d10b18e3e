"""Attaches adapters to a module's forward pass, and detaches them without a trace.

While adapters are attached, the module's own attribute `forward` is a `Chain`. It computes the base layer and lets
each adapter change the result. When the last adapter is detached, the attribute is deleted, so that the method of the
class is used again. Several networks may be attached at once and be detached in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.config.packages import release


class Adapter(Protocol):
    """The methods that a `Chain` needs from the adapter of one layer."""

    additive: bool
    """True: `add` changes the base's output. False: `replace` computes the layer from its input."""

    @property
    def active(self) -> bool:
        """False while the multiplier is 0: the chain then skips the adapter."""
        ...

    def add(self, x: Tensor, out: Tensor, batch: int) -> Tensor:
        """`out` plus the adapter's output for the input `x`; may change `out` in place.

        For linear layers `x` is [rows, in] and `out` [rows, out], with equally many rows for each of `batch` pictures,
        so that dropout can act on each picture.
        """
        ...

    def replace(self, x: Tensor) -> Tensor:
        """The output of the whole layer, with the base."""
        ...


class Chain:
    """Replaces `module.forward` while adapters are attached."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.previous: Callable[..., Tensor] | None = module.__dict__.get("forward")
        self.adapters: list[Adapter] = []
        self._plain_linear = type(module) is nn.Linear and self.previous is None
        self._plain_conv = type(module) is nn.Conv2d and self.previous is None
        self._only_additive = True

    def update(self) -> None:
        """Must be called after `adapters` was changed."""
        self._only_additive = all(adapter.additive for adapter in self.adapters)

    def __call__(self, input: Tensor) -> Tensor:
        x = _as_autocast_will(input)
        if self._only_additive and self._plain_linear:
            return self._linear(x)
        if self._only_additive and self._plain_conv:
            module: Any = self.module
            out = (
                F.conv2d(x, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups)
                if module.padding_mode == "zeros"
                else module._conv_forward(x, module.weight, module.bias)
            )
            for adapter in self.adapters:
                if adapter.active:
                    out = adapter.add(x, out, x.shape[0])
            return out
        return self._any(x)

    def _linear(self, x: Tensor) -> Tensor:
        """A linear layer. The input is made two-dimensional first, so that adapters may add to the output in place."""
        module: Any = self.module
        shape = x.shape
        if len(shape) != 2:
            x = x.reshape(-1, shape[-1])
        out = F.linear(x, module.weight, module.bias)
        for adapter in self.adapters:
            if adapter.active:
                out = adapter.add(x, out, shape[0])
        return out if len(shape) == 2 else out.view(*shape[:-1], -1)

    def _any(self, x: Tensor) -> Tensor:
        """Adapters that replace the layer: the first adapter's output is used, the others add their difference."""
        replacing = [adapter for adapter in self.adapters if not adapter.additive and adapter.active]
        base = self._base(x) if len(replacing) != 1 else None
        out = base if base is not None else replacing[0].replace(x)
        if base is not None:
            for adapter in replacing:
                out = out + (adapter.replace(x) - base)
        additive = [adapter for adapter in self.adapters if adapter.additive and adapter.active]
        if not additive:
            return out
        if not isinstance(self.module, nn.Linear):
            out = out.clone()
            for adapter in additive:
                out = adapter.add(x, out, x.shape[0])
            return out
        rows, flat = x.reshape(-1, x.shape[-1]), out.reshape(-1, out.shape[-1]).clone()
        for adapter in additive:
            flat = adapter.add(rows, flat, x.shape[0])
        return flat.view(out.shape)

    def _base(self, x: Tensor) -> Tensor:
        if self.previous is not None:
            return self.previous(x)
        return type(self.module).forward(self.module, x)


def attach(module: nn.Module, adapter: Adapter) -> None:
    """Adds `adapter` to the forward pass of `module`."""
    chain = module.__dict__.get("forward")
    if not isinstance(chain, Chain):
        chain = Chain(module)
        module.forward = chain
    chain.adapters.append(adapter)
    chain.update()


def detach(module: nn.Module, adapter: Adapter) -> None:
    """Removes `adapter`. After the last adapter, the module's `forward` is exactly as it was."""
    chain = module.__dict__.get("forward")
    if not isinstance(chain, Chain):
        return
    chain.adapters = [other for other in chain.adapters if other is not adapter]
    chain.update()
    if not chain.adapters:
        del module.forward
        if chain.previous is not None:
            module.forward = chain.previous  # type: ignore[method-assign]


_ASKS_BY_DEVICE = release(torch.__version__) >= (2, 4)
"""True when this torch can be asked for autocast's state of a given device."""


def _as_autocast_will(x: Tensor) -> Tensor:
    """Casts `x` as autocast would, once instead of for the base layer and each adapter."""
    kind = x.device.type
    if _ASKS_BY_DEVICE:
        if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
            return x.to(torch.get_autocast_dtype(kind))
    elif kind == "cuda" and torch.is_autocast_enabled():
        return x.to(torch.get_autocast_gpu_dtype())
    elif kind == "cpu" and torch.is_autocast_cpu_enabled():
        return x.to(torch.get_autocast_cpu_dtype())
    return x
