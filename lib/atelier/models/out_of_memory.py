"""How torch says that a device's memory is full."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors that say so, of every kind of device."""
    kinds: tuple[type[BaseException], ...] = (torch.cuda.OutOfMemoryError, MemoryError)
    if isinstance(error, kinds):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
