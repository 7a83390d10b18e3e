"""Assembles the next batches in a thread while a step runs, so that training never waits for data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls `load(index)` for index = first, first + 1, … last - 1 ahead of `get`, at most `depth` ahead.

    Use it in a with-block: leaving it ends the thread. Batches are meant to be taken in order; asking for another
    one goes on from there.
    """

    def __init__(self, load: Callable[[int], T], first: int, last: int, depth: int = 2) -> None:
        self._load = load
        self._last = last
        self._depth = max(1, depth)
        self._next = first
        """What the thread loads next."""
        self._ready: dict[int, T | BaseException] = {}
        self._taken = first
        """What `get` is expected to ask for."""
        self._round = 0
        """Counts jumps: what was begun before one is thrown away."""
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Prefetcher[T]:
        self._thread = threading.Thread(target=self._work, name="atelier-data", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread, after the batch it is at, and lets go of what is ready. May be called twice."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def get(self, index: int) -> T:
        """Batch `index`. Raises what `load` raised for it, RuntimeError once closed, IndexError outside the range."""
        if not 0 <= index < self._last:
            raise IndexError(f"batch {index} of {self._last}")
        with self._changed:
            if index != self._taken:
                self._round += 1
                self._ready.clear()
                self._next = self._taken = index
            if index not in self._ready:
                self._changed.notify_all()
            while index not in self._ready:
                if self._closed or self._thread is None:
                    raise RuntimeError("the prefetcher is not open")
                self._changed.wait()
            result = self._ready.pop(index)
            # A failed batch may be asked for again, and is then loaded again.
            self._taken = -1 if isinstance(result, BaseException) else index + 1
        if isinstance(result, BaseException):
            raise result
        return result

    def refill(self) -> None:
        """Lets the thread load what is missing ahead; it rests from `get` until here, unless more than that is missing.

        To be called where Python has little to do for a while, as before a backward pass: two threads that both need
        the interpreter keep each other waiting.
        """
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (self._next >= self._last or self._next >= self._taken + self._depth):
                    self._changed.wait()
                if self._closed:
                    return
                index, at = self._next, self._round
                self._next += 1
            result: T | BaseException
            try:
                result = self._load(index)
            except BaseException as error:  # noqa: BLE001 - handed to whoever asks for this batch
                result = error
            with self._changed:
                if at == self._round and not self._closed:
                    self._ready[index] = result
                    self._changed.notify_all()
            del result
