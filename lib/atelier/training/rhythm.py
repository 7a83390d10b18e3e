"""When things are due: by steps, by epochs, by the time that passed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Calendar:
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
class Rhythm:
    """True every `seconds`, by the monotonic clock, which nobody can set back."""

    seconds: float = 60.0
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True
