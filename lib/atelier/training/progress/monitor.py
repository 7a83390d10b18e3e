"""Reports the progress of a run to its record: losses, which are read in batches, speed and memory."""

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
"""Most losses that wait to be read, since reading one from a GPU waits for it."""
SECONDS = 2.0
"""Longest time that a loss waits."""
SECONDS_ON_CPU = 0.5
"""Longest time on a CPU, where reading costs nothing."""


class Monitor:
    """Collects losses on the device and reads several at once, so that it seldom waits for the device.

    Slow steps are read after some time, so that a person sees how the run goes.
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
        """Notes step number `step` (from 1). Returns True when the losses shall be read."""
        self._pending.append((step, loss.detach(), rates))
        self._seconds.append(seconds)
        late = time.monotonic() - self._read_at >= self._longest
        return late or len(self._pending) >= STEPS or step >= self._total

    def read(self) -> bool:
        """Reads the waiting losses and reports them. False when too many losses in a row were not finite."""
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
        """The mean of the last twenty steps, without the time in which the host drew pictures."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else 0.0


def longest_wait(device: torch.device) -> float:
    """Longest time in seconds that a loss waits to be read."""
    return SECONDS_ON_CPU if device.type == "cpu" else SECONDS


def memory_used(device: torch.device) -> int:
    """Bytes in use: of the device by torch, as a task manager shows them, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    try:
        import psutil
    except ImportError:
        return 0
    return psutil.Process().memory_info().rss
