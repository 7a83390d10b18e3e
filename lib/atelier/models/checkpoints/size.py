"""Sizes of tensors: their number of elements and bytes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def numbers_of(tensors: Iterable[Tensor]) -> int:
    """The number of elements of all tensors."""
    return sum(tensor.numel() for tensor in tensors)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The bytes of all tensors; memory that tensors share is counted for each."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def bytes_on(device: torch.device, tensors: Iterable[Tensor]) -> int:
    """The bytes of the tensors that are on a device of this type."""
    return bytes_of(tensor for tensor in tensors if tensor.device.type == device.type)
