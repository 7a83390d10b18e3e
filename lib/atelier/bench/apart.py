"""Runs work in a process of its own, so that its memory is separate and is freed when it ends."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def apart(work: Callable[..., T], *arguments: object) -> T:
    """What `work` gives with these arguments, in as many threads as torch has here. All of it must be picklable.

    Raises what the work raises, and `BrokenProcessPool` when its process is killed, as for want of memory.
    """
    # Forked, a process would begin with what this one has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(work, *arguments).result()
