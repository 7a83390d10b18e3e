"""The device that is measured: what it is, how its memory and its time are read, and how much of it may be used.

On a CPU the same cases run on small shapes, so that the command can be tried anywhere; its memory is not counted.
"""

from __future__ import annotations

import gc
import math
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")

GB = 1 << 30


@dataclass
class Machine:
    """`folder` takes what the cases write; `against` is another trainer's command, to be timed in turn with ours."""

    device: torch.device
    folder: Path
    against: str = ""
    notes: list[str] = field(default_factory=list)
    """What the case that runs has to tell besides its figures."""
    until: float = math.inf
    """When the case that runs should end, by `time.monotonic`."""

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    # -- what it is -----------------------------------------------------------------------------------------------

    def described(self) -> dict[str, Any]:
        """Card, driver, torch: for the head of a report."""
        said: dict[str, Any] = {
            "device": str(self.device), "torch": torch.__version__, "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        }  # fmt: skip
        for name in ("diffusers", "transformers", "accelerate"):
            said[name] = __import__(name).__version__
        if self.is_gpu:
            about = torch.cuda.get_device_properties(self.device)
            said |= {
                "card": about.name, "memory": about.total_memory, "capability": f"{about.major}.{about.minor}",
                "cuda": torch.version.cuda, "hip": torch.version.hip, "cudnn": torch.backends.cudnn.version(),
                "driver": _driver(),
            }  # fmt: skip
        return said

    # -- memory ---------------------------------------------------------------------------------------------------

    def free_everything(self) -> None:
        """Lets go of what nothing uses, so that a case begins with an empty device."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def allocated(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.is_gpu else 0

    def total(self) -> int:
        return torch.cuda.mem_get_info(self.device.index or 0)[1] if self.is_gpu else 0

    def new_peak(self) -> None:
        """From here on `peak` counts anew."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> tuple[int, int]:
        """The most bytes that were allocated and reserved since `new_peak`; zeros on a CPU."""
        if not self.is_gpu:
            return 0, 0
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)

    @contextmanager
    def kept_to(self, size: float) -> Iterator[None]:
        """Inside the block torch gets no more than `size` bytes of the device, as on a smaller card."""
        self.free_everything()
        self.keep_to(size)
        try:
            yield
        finally:
            self.keep_to(math.inf)

    def keep_to(self, size: float) -> None:
        """From here on torch gets no more than `size` bytes of the device."""
        if self.is_gpu:
            share = 1.0 if math.isinf(size) else min(1.0, size / self.total())
            torch.cuda.set_per_process_memory_fraction(share, self.device)

    # -- time -----------------------------------------------------------------------------------------------------

    def in_time(self, items: Iterable[T]) -> Iterator[T]:
        """Gives `items` one after the other while there is time, the first in any case; the others are noted."""
        waiting = list(items)
        for number, item in enumerate(waiting):
            if number and time.monotonic() > self.until:
                left = ", ".join(map(_name, waiting[number:]))
                self.notes.append(f"no time for {len(waiting) - number} of {len(waiting)}: {left}")
                return
            yield item

    def seconds(self, work: Callable[[], object]) -> float:
        """Seconds that `work` takes, with all that it queues on the device: between two events there."""
        if not self.is_gpu:
            return self.wall_seconds(work)
        stream = torch.cuda.current_stream(self.device)
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.synchronize()
        begun.record(stream)
        work()
        ended.record(stream)
        ended.synchronize()
        return begun.elapsed_time(ended) / 1000

    def wall_seconds(self, work: Callable[[], object]) -> float:
        """The same by the clock, for what other processes do."""
        self.synchronize()
        begun = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - begun

    def median_seconds(self, work: Callable[[], object], times: int) -> float:
        return statistics.median(self.seconds(work) for _ in range(times))

    def synchronize(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize(self.device)


def this_machine(folder: Path, against: str = "") -> Machine:
    """The first GPU, or the CPU where there is none."""
    return Machine(torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"), folder, against)


def _name(item: Any) -> str:
    """What a note calls a base, an entry of a table, or anything else."""
    if isinstance(item, tuple) and isinstance(item[0], str):
        return item[0]
    return str(getattr(item, "name", item))


def _driver() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.split("\n")[0].strip()
        )
    except (OSError, subprocess.SubprocessError):
        return None
