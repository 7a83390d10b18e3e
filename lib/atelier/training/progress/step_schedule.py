"""When things are due: by steps, by epochs, by the time that passed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SHARE = 0.05
"""Of a run's time, for what has a rhythm."""


@dataclass(frozen=True)
class StepSchedule:
    """Where steps and epochs lie. A step is one optimiser step over `accumulation` batches."""

    total_steps: int
    batches_per_epoch: int
    accumulation: int = 1

    def finished_epochs(self, step: int) -> int:
        """Whole epochs after `step` steps."""
        return step * self.accumulation // self.batches_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """True when an epoch ended within step number `step` (from 1)."""
        return self.finished_epochs(step) > self.finished_epochs(step - 1)

    @property
    def epochs(self) -> int:
        """How many epochs the run touches."""
        return -(-self.total_steps * self.accumulation // self.batches_per_epoch)

    def due(self, step: int, every_steps: int | None, every_epochs: int | None) -> bool:
        """True when something is to be done every so many steps or epochs, after step number `step`."""
        if every_steps and step % every_steps == 0:
            return True
        return bool(every_epochs) and self.ends_epoch(step) and self.finished_epochs(step) % (every_epochs or 1) == 0


@dataclass
class Throttle:
    """True every `seconds`, or less often where what is done takes long, by a clock that nobody can set back."""

    seconds: float = 60.0
    _last: float = field(default_factory=time.monotonic)
    _took: float = 0.0
    share: float = SHARE
    """The most of the time that what is done may take."""

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < max(self.seconds, self._took / self.share):
            return False
        self._last = now
        return True

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around what is done when it is due: it is to take `share` of the time at the most."""
        begun = time.monotonic()
        yield
        self._took = time.monotonic() - begun
