"""Recognises errors that mean that a device's memory is full."""

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
"""Texts of such errors. cuBLAS and cuDNN allocate without torch, first when they start. The last is DirectML's."""
_PERHAPS = ("unable to find an engine to execute this computation", "Unable to find a valid cuDNN algorithm")
"""cuDNN tries several algorithms and hides that each needed more memory. These texts can have other causes too."""
FULL = 0.1
"""With less than this share of a device's memory free, those texts mean that it is full."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for all errors by which torch reports that a device's memory is full."""
    kinds: tuple[type[BaseException], ...] = (torch.cuda.OutOfMemoryError, MemoryError)
    if isinstance(error, kinds):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return any(words in text for words in _WORDS) or (any(words in text for words in _PERHAPS) and _nearly_full())


def _nearly_full() -> bool:
    """True when a GPU has hardly any free memory. Memory that torch has cached does not count as free."""
    if not torch.cuda.is_available():
        return False
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        if free < FULL * total:
            return True
    return False
