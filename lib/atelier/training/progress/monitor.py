"""What a run tells its record while it goes: losses read in batches, speed, memory."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from atelier.training.progress.step_schedule import StepSchedule


class Sink(Protocol):
    """The part of a run's record that the monitor writes to."""

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None: ...

    def progress(
        self, step: int, total: int, epoch: int, epochs: int, seconds_per_step: float, eta: float, memory: int
    ) -> None: ...


OVERFLOWS = 10
"""NaN or infinite losses in a row that a scaler of fp16 gradients may need to find its scale."""
STEPS = 10
"""The most steps whose losses wait to be read."""
SECONDS = 2.0
"""The longest that a loss waits."""
SECONDS_ON_PROCESSOR = 0.5
"""There it lies at hand."""


class Monitor:
    """Collects losses on the device and reads them in batches: one wait for the device every so many steps.

    Where steps are long they are read by the clock, so that a person sees how the run goes.
    """

    def __init__(self, sink: Sink, step_schedule: StepSchedule, device: torch.device, patience: int = 0) -> None:
        """`patience`: how many losses in a row may be NaN or infinite before that counts as divergence."""
        self._sink = sink
        self._patience = patience
        self._overflows = 0
        self._step_schedule = step_schedule
        self._total = step_schedule.total_steps
        self._device = device
        self._pending: list[tuple[int, Tensor, dict[str, float]]] = []
        self._seconds: deque[float] = deque(maxlen=20)
        self._longest = longest_wait(device)
        self._read_at = time.monotonic()

    def step_done(self, step: int, loss: Tensor, rates: dict[str, float], seconds: float) -> bool:
        """Notes step number `step` (from 1). Gives True when the losses are due to be read."""
        self._pending.append((step, loss.detach(), rates))
        self._seconds.append(seconds)
        late = time.monotonic() - self._read_at >= self._longest
        return late or len(self._pending) >= STEPS or step >= self._total

    def read(self) -> bool:
        """Reads what is pending and hands it on. False when more losses in a row were not finite than is borne."""
        self._read_at = time.monotonic()
        if not self._pending:
            return True
        values = torch.stack([loss for _, loss, _ in self._pending]).float().cpu().tolist()
        rows = [(step, value, rates) for (step, _, rates), value in zip(self._pending, values)]
        self._pending.clear()
        self._sink.losses(rows)
        step = rows[-1][0]
        speed = self.seconds_per_step
        epochs = self._step_schedule.epochs
        epoch = min(epochs, self._step_schedule.finished_epochs(step - 1) + 1)
        left = max(0, self._total - step) * speed
        self._sink.progress(step, self._total, epoch, epochs, speed, left, memory_used(self._device))
        return self._bears(values)

    def _bears(self, losses: Sequence[float]) -> bool:
        for loss in losses:
            self._overflows = 0 if math.isfinite(loss) else self._overflows + 1
            if self._overflows > self._patience:
                return False
        return True

    @property
    def seconds_per_step(self) -> float:
        """The mean of the last twenty steps, without the waits for the host's pictures."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else 0.0


def longest_wait(device: torch.device) -> float:
    """Seconds that a loss waits to be read, at the most."""
    return SECONDS_ON_PROCESSOR if device.type == "cpu" else SECONDS


def memory_used(device: torch.device) -> int:
    """Bytes in use: what torch has of the device, as a task manager shows it; of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    try:
        import psutil
    except ImportError:
        return 0
    return psutil.Process().memory_info().rss
