"""Devices: their numbers, and the way to them from the CPU's memory, without waiting for what they are at."""

from __future__ import annotations

import torch
from torch import Tensor


def index_of(device: torch.device) -> int:
    """The number of a CUDA device: A1111's is "cuda" alone, which torch before 2.3 takes no memory information of."""
    return torch.cuda.current_device() if device.index is None else device.index


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`tensor` on `device`, in `dtype` if it is given. A tensor that is there already is returned as it is.

    In CUDA, a copy from pageable memory waits until everything queued before it is done. A copy from page-locked memory
    is queued itself (CUDA Runtime API, "API synchronization behavior"), so that the CPU can prepare the next
    operations. Apple's devices would read the CPU's memory after this has returned, so there it waits.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=device.type != "mps")
