"""Checks over many steps and many runs that memory, threads and open files do not grow."""

from __future__ import annotations

import gc
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atelier.bench.models import SHAPES, loaded_host
from atelier.bench.pictures import bench_job
from atelier.jobs.control import Control
from atelier.jobs.queue import Jobs
from atelier.jobs.record import Record
from atelier.training.run import train

WARM = 0.25
"""The part of the samples that is left out of the slope: caches fill, allocators find their size."""


@dataclass(frozen=True)
class Soaked:
    """`slope` in bytes a step or a run, after the warm-up, `noise` the spread of the memory around that line.

    `drift` is what the line grows by from its beginning to its end. Threads and files are the counts before and after.
    """

    what: str
    count: int
    first_bytes: int
    last_bytes: int
    slope: float
    drift: float
    noise: float
    threads: tuple[int, int]
    files: tuple[int, int]

    @property
    def flat(self) -> bool:
        """True when memory grew by no more than its noise, or 1 MB, and no thread or file was left."""
        grew = self.drift > max(2 * self.noise, 2**20)
        return not grew and self.threads[1] <= self.threads[0] and self.files[1] <= self.files[0]

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "flat": self.flat}

    def __str__(self) -> str:
        return (
            f"{self.what} {self.count}: {self.first_bytes / 2**20:.1f} -> {self.last_bytes / 2**20:.1f} MB, "
            f"slope {self.slope:.0f} bytes each ({self.drift / 2**20:+.2f} MB in all, noise {self.noise / 2**20:.2f}), "
            f"threads {self.threads[0]} -> {self.threads[1]}, files {self.files[0]} -> {self.files[1]}: "
            f"{'flat' if self.flat else 'GREW'}"
        )


def soak_steps(steps: int, every: int = 20) -> Soaked:
    """One run of `steps` on the demo base; memory is read every `every` steps."""
    samples: list[int] = []

    class Watched(Record):
        def losses(self, rows):  # type: ignore[no-untyped-def]
            super().losses(rows)
            if rows[-1][0] % every == 0:
                samples.append(resident())

    with tempfile.TemporaryDirectory(prefix="atelier-soak-") as name:
        folder = Path(name)
        host = loaded_host(SHAPES["demo"], folder / "data")
        _run(host, bench_job(SHAPES["demo"], folder / "first", 3), Record.create(folder / "first run", {}))
        before = handles()
        job = bench_job(SHAPES["demo"], folder / "pictures", steps)
        _run(host, job, Watched.create(folder / "run", {}))
        return fitted("steps", steps, samples, every, before, handles())


def soak_runs(runs: int, steps: int = 3) -> Soaked:
    """`runs` short runs, each through the queue to its saved file."""
    samples: list[int] = []
    with tempfile.TemporaryDirectory(prefix="atelier-soak-") as name:
        folder = Path(name)
        host = loaded_host(SHAPES["demo"], folder / "data")
        jobs = Jobs(host)
        job = bench_job(SHAPES["demo"], folder / "pictures", steps)
        before = (0, 0)
        for number in range(runs):
            job.settings.output_name = f"soak{number}"
            made = jobs.submit(job)
            if not jobs.wait(made, 600) or made.state != "done":
                raise RuntimeError(f"run {number} is {made.state}: {made.record.state_message}")
            gc.collect()
            samples.append(resident())
            if number == 1:
                before = handles()
        after = handles()
        jobs.close()
        return fitted("runs", runs, samples, 1, before, after)


def fitted(
    what: str, count: int, samples: Sequence[int], every: int, before: tuple[int, int], after: tuple[int, int]
) -> Soaked:
    """The straight line through the samples after the warm-up, by least squares."""
    used = list(samples[int(len(samples) * WARM) :])
    middle, mean = (len(used) - 1) / 2, sum(used) / len(used)
    spread = sum((at - middle) ** 2 for at in range(len(used)))
    slope = sum((at - middle) * (value - mean) for at, value in enumerate(used)) / spread if spread else 0.0
    rest = [value - mean - slope * (at - middle) for at, value in enumerate(used)]
    noise = (sum(value**2 for value in rest) / len(rest)) ** 0.5
    return Soaked(
        what, count, used[0], used[-1], slope / every, slope * (len(used) - 1), noise,
        (before[0], after[0]), (before[1], after[1]),
    )  # fmt: skip


def resident() -> int:
    """Bytes of this process in memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def handles() -> tuple[int, int]:
    """Python's threads, and open files, sockets and pipes of this process."""
    import psutil

    gc.collect()
    count: Callable[[], int] = getattr(psutil.Process(), "num_fds", None) or psutil.Process().num_handles
    return threading.active_count(), count()


def _run(host, job, record: Record) -> None:  # type: ignore[no-untyped-def]
    outcome = train(job, host, record, Control())
    if outcome.state != "done":
        raise RuntimeError(f"the run is {outcome.state}")
