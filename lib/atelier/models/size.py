"""How much tensors are."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def numbers_of(tensors: Iterable[Tensor]) -> int:
    """How many numbers tensors have together."""
    return sum(tensor.numel() for tensor in tensors)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """How many bytes tensors have together, memory that they share counted for each."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
