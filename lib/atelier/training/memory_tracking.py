"""Counting the bytes of tensors that are alive, real ones or fake ones, in the thread that asks."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from atelier.config.packages import release


def can_count() -> bool:
    """False for torch before 2.3, where a finaliser on a storage's Python object ends the process.

    Seen on 2.1.2; 2.3.1, 2.9.0 and 2.13.0 count rightly.
    """
    return release(torch.__version__) >= (2, 3)


class LiveBytes(TorchDispatchMode):
    """While it is entered, every storage that an operation makes counts from then until it is freed.

    What autograd saves for the backward pass is a tensor like any other and so counts as long as it is kept. Memory
    that a kernel uses within one operation is not seen. `now` and `peak` are bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(leaf for leaf in tree_flatten(out)[0] if isinstance(leaf, Tensor))
        return out

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for finalizer in self._known.values():
            finalizer.detach()
        self._known.clear()

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that were there before; those it knows already count once."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            # A storage's Python object lives as long as its memory, so its end is the memory's end.
            key = storage._cdata
            if key in self._known:
                continue
            size = storage.nbytes()
            self._known[key] = weakref.finalize(storage, self._freed, key, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def new_peak(self) -> None:
        """`peak` begins anew, at what is alive now."""
        self.peak = self.now

    def _freed(self, key: int, size: int) -> None:
        if self._known.pop(key, None) is not None:
            self.now -= size


def norms_as_on_gpu(module: nn.Module) -> None:
    """Lets a module's norms compute in float32 under autocast, as a GPU's do and a processor's do not.

    What they keep for the backward pass, and what follows them, is then as large as on a GPU. The attention of both
    keeps its inputs, its output and one float32 number a row.
    """
    for child in module.modules():
        if isinstance(child, (nn.GroupNorm, nn.LayerNorm)):
            child.forward = functools.partial(_float32_norm, child)  # type: ignore[method-assign]


def _float32_norm(norm: nn.GroupNorm | nn.LayerNorm, x: Tensor) -> Tensor:
    if not torch.is_autocast_cpu_enabled():
        return type(norm).forward(norm, x)  # type: ignore[arg-type]
    weight = None if norm.weight is None else norm.weight.float()
    bias = None if norm.bias is None else norm.bias.float()
    if isinstance(norm, nn.GroupNorm):
        return functional.group_norm(x.float(), norm.num_groups, weight, bias, norm.eps)
    return functional.layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps)
