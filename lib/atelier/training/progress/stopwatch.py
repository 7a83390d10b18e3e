"""Measures how long the parts of a step take, for the bench. While it is off, it costs next to nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

NOTHING = nullcontext()


class Stopwatch:
    """Adds up seconds by name while `on`. On a GPU it waits for the device at every part, which slows the step."""

    def __init__(self) -> None:
        self.on = False
        self.seconds: dict[str, float] = {}

    def part(self, name: str) -> AbstractContextManager[None]:
        """Times the block under `name`."""
        return self._timed(name) if self.on else NOTHING

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - started

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()
