"""How a device says that its memory is full."""

from __future__ import annotations

import torch

_WORDS = (
    "out of memory",
    "can't allocate memory",
    "STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "not enough GPU video memory",
)
"""cuBLAS and cuDNN ask for memory past torch's allocator, first when they are set up. The last is DirectML's."""
_PERHAPS = ("unable to find an engine to execute this computation", "Unable to find a valid cuDNN algorithm")
"""cuDNN tries one way after another, and swallows that each wanted more memory; it has other reasons, too."""
FULL = 0.1
"""Share of a device's memory below which those words mean that it is full."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch says that a device's memory is full."""
    kinds: tuple[type[BaseException], ...] = (torch.cuda.OutOfMemoryError, MemoryError)
    if isinstance(error, kinds):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return any(words in text for words in _WORDS) or (any(words in text for words in _PERHAPS) and _nearly_full())


def _nearly_full() -> bool:
    """True when a GPU has next to nothing free. What torch has cached is not counted as free: it was of no use."""
    if not torch.cuda.is_available():
        return False
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        if free < FULL * total:
            return True
    return False
