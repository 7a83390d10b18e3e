"""Windows' drivers spill a full GPU into the computer's memory instead of failing, and all is slow.

NVIDIA's drivers do so since 536.40 ("CUDA - Sysmem Fallback Policy" in their control panel turns it off, for one
program or for all). Nothing then says that memory is out. Inside a turn torch is therefore kept to what is really free:
it raises its ordinary error, and the run saves memory. What spills all the same is told.
"""

from __future__ import annotations

import statistics
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from atelier.models.transfer import index_of

RESERVE = 600 << 20
"""Bytes that are left free beside a run on Windows: the screen and other programs take some at any time."""
CAP = 500 << 20
"""Bytes that torch leaves free inside a turn."""
LITTLE = 300 << 20
"""Free bytes below which a driver is likely to spill."""
SLOW = 3.0
"""A step of so many times the median is slow."""
IN_A_ROW = 3
"""Slow steps in a row that are no accident."""
KNOWN = 8
"""Steps whose median is known well enough."""
HELP = (
    "The GPU's memory is full, and Windows moves some of it into the computer's memory, which is many times slower. "
    "Close other programs that use the GPU, train with a smaller resolution or rank, or set "
    '"CUDA - Sysmem Fallback Policy" to "Prefer No Sysmem Fallback" in NVIDIA\'s control panel.'
)


def spills(device: torch.device) -> bool:
    """True where a full device is not told."""
    return sys.platform == "win32" and device.type == "cuda"


def reserve(device: str) -> int:
    """Bytes that a plan leaves free on a device of this kind, beside its share for what is not predicted."""
    return RESERVE if spills(torch.device(device)) else 0


@contextmanager
def kept_within(device: torch.device) -> Iterator[None]:
    """Inside the block torch takes no more of the device than is free; afterwards it may take what it could before."""
    if not spills(device):
        yield
        return
    index = index_of(device)
    free, total = torch.cuda.mem_get_info(index)
    before = _fraction(index)
    allowed = (torch.cuda.memory_reserved(index) + free - CAP) / total
    torch.cuda.set_per_process_memory_fraction(min(before, max(0.0, allowed)), index)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, index)


def _fraction(index: int) -> float:
    """What the process is kept to now; torch before 2.6 does not tell."""
    asked = getattr(torch.cuda, "get_per_process_memory_fraction", None)
    return 1.0 if asked is None else float(asked(index))


class SpillWatch:
    """Says once when memory has probably spilt: next to nothing is free, or a step takes far longer than before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: deque[float] = deque(maxlen=50)
        self._slow = 0
        self._said = not spills(device)

    def step_done(self, seconds: float) -> str | None:
        """To be called after each step. Gives a sentence the first time that there is something to say."""
        if self._said:
            return None
        known = len(self._seconds) >= KNOWN
        self._slow = self._slow + 1 if known and seconds > SLOW * statistics.median(self._seconds) else 0
        if not self._slow:
            self._seconds.append(seconds)
        if self._slow < IN_A_ROW and self._free() >= LITTLE:
            return None
        self._said = True
        return HELP

    def _free(self) -> int:
        return torch.cuda.mem_get_info(index_of(self._device))[0]
