"""Decides when something is due: by steps, by epochs, or by time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SHARE = 0.05
"""Largest share of a run's time for regular work, such as writing states."""


@dataclass(frozen=True)
class StepSchedule:
    """The steps and epochs of a run. A step is one optimizer step over `accumulation` batches."""

    total_steps: int
    batches_per_epoch: int
    accumulation: int = 1

    def finished_epochs(self, step: int) -> int:
        """Finished epochs after `step` steps."""
        return step * self.accumulation // self.batches_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """True when an epoch ended within step number `step` (from 1)."""
        return self.finished_epochs(step) > self.finished_epochs(step - 1)

    @property
    def epochs(self) -> int:
        """Number of epochs of the run, the last one perhaps incomplete."""
        return -(-self.total_steps * self.accumulation // self.batches_per_epoch)

    def due(self, step: int, every_steps: int | None, every_epochs: int | None) -> bool:
        """True when something that is done every N steps or every N epochs is due after step number `step`."""
        if every_steps and step % every_steps == 0:
            return True
        return bool(every_epochs) and self.ends_epoch(step) and self.finished_epochs(step) % (every_epochs or 1) == 0


@dataclass
class Throttle:
    """Due every `seconds`, or less often when the work takes long. It uses a monotonic clock.

    With `first` it is due early: after so many seconds, then after twice as many each time, until it is `seconds`.
    """

    seconds: float = 60.0
    _last: float = field(default_factory=time.monotonic)
    _took: float = 0.0
    share: float = SHARE
    """Largest share of the time that the work may take."""
    first: float | None = None

    def due(self) -> bool:
        now = time.monotonic()
        seconds = self.seconds if self.first is None else min(self.first, self.seconds)
        if now - self._last < max(seconds, self._took / self.share):
            return False
        self._last = now
        if self.first is not None:
            self.first *= 2
        return True

    def expect(self, seconds: float) -> None:
        """How long the work will probably take, until it was measured."""
        self._took = self._took or seconds

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Use it around the work, to measure it: the work shall take at most `share` of the time."""
        begun = time.monotonic()
        yield
        self._took = time.monotonic() - begun
