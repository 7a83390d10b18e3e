"""SD.Next's queue, made fair: it is a plain lock, which a trainer would take again before others get it."""

from __future__ import annotations

from threading import Lock
from types import TracebackType
from typing import Any

from atelier.hosts.shared.lease import LET_IN, let_in

CHANCE = 0.005
"""Seconds that those who may wait have to take it: the lock does not say whether anybody does."""


class Queue:
    """The lock as a context. Leaving it lets those go first who came while it was held."""

    def __init__(self, lock: Any) -> None:
        self._lock: Lock = lock

    def __enter__(self) -> Queue:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        waiting = others_wait()
        self._lock.release()
        let_in(self._lock, LET_IN if waiting else CHANCE)


def others_wait() -> bool:
    """True when a click on the page waits for the queue: it is on the list of tasks before it asks for the lock."""
    from modules import progress

    return bool(progress.pending_tasks)
