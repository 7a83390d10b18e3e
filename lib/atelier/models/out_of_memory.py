"""How a device says that its memory is full."""

from __future__ import annotations

import torch

_WORDS = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
"""The last is cuBLAS' and cuDNN's, which ask for memory past torch's allocator."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch says that a device's memory is full."""
    kinds: tuple[type[BaseException], ...] = (torch.cuda.OutOfMemoryError, MemoryError)
    if isinstance(error, kinds):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
