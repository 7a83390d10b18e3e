"""How much tensors are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def numbers_of(tensors: Iterable[Tensor]) -> int:
    """How many numbers tensors have together."""
    return sum(tensor.numel() for tensor in tensors)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """How many bytes tensors have together, memory that they share counted for each."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def bytes_on(device: torch.device, tensors: Iterable[Tensor]) -> int:
    """How many bytes of tensors lie on a device of this kind."""
    return bytes_of(tensor for tensor in tensors if tensor.device.type == device.type)
