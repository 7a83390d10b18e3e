"""Counts the bytes of living tensors, real or fake, in the current thread."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from atelier.models.unet.vae_encoding import is_channels_last


class LiveBytes(TorchDispatchMode):
    """While it is entered, counts every storage that an operation makes until it is freed.

    Tensors that autograd saves for the backward pass count as long as they are kept. Of the memory that a kernel uses
    within one operation only the workspaces of convolutions are counted, with `workspaces`. `now` and `peak` are in
    bytes.

    Weak references show which storages are freed. They are checked only when the sum would be a new peak by more than
    `GRAIN` of it. A finaliser on a storage's Python object would be exact, but crashes the process with torch 2.1.
    """

    GRAIN = 0.002

    def __init__(self, workspaces: bool = False) -> None:
        super().__init__()
        self.peak = 0
        self._workspaces = workspaces
        self._sum = 0
        """Bytes of all storages in `_known`, some of which may be freed."""
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(leaf for leaf in tree_flatten(out)[0] if isinstance(leaf, Tensor))
        if self._workspaces:
            size = workspace_bytes(func, args, out)
            if self._sum + size > self.peak * (1 + self.GRAIN):
                self.peak = max(self.peak, self.now + size)
        return out

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._known.clear()

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that existed before. Known tensors are not counted twice."""
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
        """Bytes of living tensors."""
        for key in [key for key, (storage, _) in self._known.items() if storage.expired()]:
            self._sum -= self._known.pop(key)[1]
        return self._sum

    def leave_out(self, size: int) -> None:
        """Excludes bytes that are alive but not on the device."""
        self._sum -= size

    def new_peak(self) -> None:
        """Resets `peak` to the bytes that are alive now."""
        self.peak = self.now


def workspace_bytes(func: Any, args: Sequence[Any], out: Any) -> int:
    """Bytes that a convolution needs beside its tensors while it computes; 0 for other operations.

    The fast kernels of cuDNN on tensor cores and of oneDNN do not compute on [N, C, H, W]: what goes in and what comes
    out is rearranged in a workspace, weights too. With channels last already, as cuDNN wants them, nothing is.
    """
    if func is torch.ops.aten.convolution.default:
        x, weight = args[0], args[1]
        return 0 if x.dim() != 4 or is_channels_last(x) else _bytes((x, weight, out))
    if func is torch.ops.aten.convolution_backward.default:
        gradient, x, weight = args[:3]
        if x.dim() != 4 or is_channels_last(x):
            return 0
        # One kernel for the gradient of what went in, one for that of the weights.
        return max((_bytes((gradient, other, weight)) for other in (out[0], x) if other is not None), default=0)
    return 0


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def norms_as_on_gpu(module: nn.Module) -> None:
    """Lets a module's norms compute in float32 under autocast, as on a GPU but not on a CPU.

    The tensors that they keep for the backward pass, and their outputs, are then as large as on a GPU. On both,
    attention keeps its inputs, its output and one float32 number per row.
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
