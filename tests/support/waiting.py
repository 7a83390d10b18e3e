"""Waiting for what another thread does, where no event tells of it; never for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds until a test gives up on what should happen soon."""
PAUSE = 0.002
"""Seconds between two looks, which the other threads have for themselves."""


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Looks until `condition()` is true. Raises AssertionError that says `what` did not happen in time."""
    end = time.monotonic() + patience
    between = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"{what} has not happened in {patience:g} seconds"
        between.wait(PAUSE)
