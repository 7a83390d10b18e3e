"""Counting the bytes of tensors that are alive, real ones or fake ones, in the thread that asks."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class LiveBytes(TorchDispatchMode):
    """While it is entered, every storage that an operation makes counts from then until it is freed.

    What autograd saves for the backward pass is a tensor like any other and so counts as long as it is kept. Memory
    that a kernel uses within one operation is not seen. `now` and `peak` are bytes.

    Which storages are gone is asked of weak references, whenever their sum would be a new peak by more than `GRAIN`
    of it: a finaliser on a storage's Python object would tell at once, and ends the process with torch 2.1.
    """

    GRAIN = 0.002

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sum = 0
        """Bytes of all in `_known`, some of which may be gone."""
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(leaf for leaf in tree_flatten(out)[0] if isinstance(leaf, Tensor))
        return out

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._known.clear()

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that were there before; those it knows already count once."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            # A weak reference keeps the storage's own address from being given to another as long as it is held.
            key = storage._cdata
            if key in self._known:
                continue
            size = storage.nbytes()
            self._known[key] = StorageWeakRef(storage), size
            self._sum += size
            if self._sum > self.peak * (1 + self.GRAIN):
                self.peak = max(self.peak, self.now)

    @property
    def now(self) -> int:
        """What is alive."""
        for key in [key for key, (storage, _) in self._known.items() if storage.expired()]:
            self._sum -= self._known.pop(key)[1]
        return self._sum

    def leave_out(self, size: int) -> None:
        """Bytes that are alive and lie elsewhere than on the device."""
        self._sum -= size

    def new_peak(self) -> None:
        """`peak` begins anew, at what is alive now."""
        self.peak = self.now


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
