"""Weights on their way from ordinary memory to a GPU, without anybody waiting: through two page-locked buffers.

CUDA copies from page-locked memory beside what the device computes; from ordinary memory the copy waits for the stream
that it is queued on, and the program with it (CUDA Runtime API, "API synchronization behavior").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes at whose multiples tensors begin in a buffer."""


class Staging:
    """Two buffers in turn. One is written again only after the copies out of it are done."""

    def __init__(
        self,
        device: torch.device,
        size: int,
        pinned: bool = True,
        event: Callable[[], Any] | None = None,
    ) -> None:
        """`size`: bytes of the largest group of tensors, as `room_for` counts them. `event` makes a device's event."""
        self._device = device
        self._buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        self._event = event or torch.cuda.Event
        self._done: list[Any] = [None, None]
        self._next = 0

    def copies(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor on the device, in memory of its own. The copies are queued on the current stream."""
        turn, self._next = self._next, 1 - self._next
        if self._done[turn] is not None:
            self._done[turn].synchronize()
        buffer, start, found = self._buffers[turn], 0, []
        for tensor in tensors:
            size = tensor.numel() * tensor.element_size()
            place = buffer[start : start + size].view(tensor.dtype).view(tensor.shape)
            place.copy_(tensor)
            found.append(place.to(self._device, non_blocking=True, copy=True))
            start += _aligned(size)
        self._done[turn] = self._event()
        self._done[turn].record()
        return found


def room_for(tensors: Sequence[Tensor]) -> int:
    """Bytes of a buffer that takes all of them."""
    return sum(_aligned(tensor.numel() * tensor.element_size()) for tensor in tensors)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
