"""Frees a run's memory when it ends or pauses, instead of waiting for Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
import sys
import traceback

import torch


def give_back_memory() -> None:
    """Runs the garbage collector, and returns cached memory of the device and of the CPU to the system."""
    # Modules, hooks and optimizers refer to each other: without the collector a whole model would stay for minutes.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        # glibc keeps freed memory between blocks in use. After a run on the CPU that can be gigabytes.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # other C libraries return memory by themselves
            trim(ctypes.c_size_t(0))


def forget_frames(error: BaseException) -> None:
    """Clears the local variables in an error's traceback, since they hold tensors. The traceback keeps its lines."""
    each: BaseException | None = error
    cleared: set[int] = set()
    while each is not None and id(each) not in cleared:  # an error may be its own cause
        cleared.add(id(each))
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
