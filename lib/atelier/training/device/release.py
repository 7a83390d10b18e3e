"""Memory that a run took is free when it ends or rests, not when Python's collector next comes by."""

from __future__ import annotations

import ctypes
import gc
import sys
import traceback

import torch


def give_back_memory() -> None:
    """Collects what nothing uses any more, and returns the device's cached memory to it, and the processor's."""
    # Modules, hooks and optimisers hold one another: without the collector a whole model would stay for minutes.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        # glibc keeps what is freed between two blocks in use: after a run on the processor that can be gigabytes.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # other C libraries give memory back by themselves
            trim(ctypes.c_size_t(0))


def forget_frames(error: BaseException) -> None:
    """Lets go of the variables of the functions that an error came through; its traceback still names their lines."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
