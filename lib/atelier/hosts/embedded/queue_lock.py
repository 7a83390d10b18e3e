"""The host's queue: a fair lock, given in the order of arrival."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class QueueLock:
    """A fair lock. A plain `threading.Lock` lets the thread that released it take it again at once, so a training
    loop would never let a waiting picture in; here whoever waits longest is next.

    Not re-entrant: a thread that takes it twice waits for itself.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[object] = deque()
        self._held = False

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Waits for its turn. False when not blocking and taken, or when `timeout` seconds have passed."""
        ticket = object()
        with self._condition:
            if not blocking and (self._held or self._waiting):
                return False
            self._waiting.append(ticket)
            try:
                served = self._condition.wait_for(lambda: self._is_next(ticket), timeout)
            except BaseException:
                self._give_up(ticket)
                raise
            if not served:
                self._give_up(ticket)
                return False
            self._waiting.popleft()
            self._held = True
            return True

    def release(self) -> None:
        """Lets the next one in. Raises `RuntimeError` when nobody holds the lock."""
        with self._condition:
            if not self._held:
                raise RuntimeError("the queue is released but nobody holds it")
            self._held = False
            self._condition.notify_all()

    def locked(self) -> bool:
        return self._held

    def waiting(self) -> int:
        """How many are in the queue, the holder not counted."""
        with self._condition:
            return len(self._waiting)

    def _is_next(self, ticket: object) -> bool:
        return not self._held and self._waiting[0] is ticket

    def _give_up(self, ticket: object) -> None:
        self._waiting.remove(ticket)
        self._condition.notify_all()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
