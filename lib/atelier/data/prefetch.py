"""Loads the next batches in a thread while a step runs, so that training does not wait for data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls `load(index)` for index = first, first + 1, … last - 1 ahead of `get`, at most `depth` ahead.

    Use it in a with-block; leaving the block ends the thread. Batches should be taken in order. After any other index,
    loading goes on from there.
    """

    def __init__(self, load: Callable[[int], T], first: int, last: int, depth: int = 2) -> None:
        self._load = load
        self._last = last
        self._depth = max(1, depth)
        self._next = first
        """Index that the thread loads next."""
        self._ready: dict[int, T | BaseException] = {}
        self._taken = first
        """Index that `get` should ask for next."""
        self._round = 0
        """Counts jumps to another index. Batches that were started before a jump are dropped."""
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
        """Ends the thread after its current batch and drops the loaded batches. May be called twice."""
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
            # After an error the same batch may be asked for again, and is then loaded again.
            self._taken = -1 if isinstance(result, BaseException) else index + 1
        if isinstance(result, BaseException):
            raise result
        return result

    def refill(self) -> None:
        """Lets the thread load the next batch. It waits from `get` until this call, unless more batches are missing.

        Call it where Python has little to do for a while, such as before a backward pass: two threads that both need
        the interpreter slow each other down.
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
