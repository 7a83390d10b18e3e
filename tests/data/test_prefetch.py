"""Batches come in order and ahead of time, errors reach who asks, and no thread stays behind."""

from __future__ import annotations

import threading

import pytest

from atelier.data.prefetch import Prefetcher


def threads() -> int:
    return sum(thread.name == "atelier-data" for thread in threading.enumerate())


def test_in_order_and_no_thread_left() -> None:
    with Prefetcher(lambda index: index * index, 3, 10) as batches:
        assert threads() == 1
        assert [batches.get(index) for index in range(3, 10)] == [index * index for index in range(3, 10)]
    assert threads() == 0


def test_it_works_ahead_but_not_further_than_its_depth() -> None:
    loaded: list[int] = []
    reached = threading.Semaphore(0)

    def load(index: int) -> int:
        loaded.append(index)
        reached.release()
        return index

    with Prefetcher(load, 0, 100, depth=3) as batches:
        for _ in range(3):
            assert reached.acquire(timeout=10)
        assert loaded == [0, 1, 2], "three are loaded before any is asked for"
        assert batches.get(0) == 0
        assert not reached.acquire(timeout=0.05), "it rests until it is told that there is time"
        batches.refill()
        assert reached.acquire(timeout=10)
        assert not reached.acquire(timeout=0.05) and loaded == [0, 1, 2, 3]
        assert [batches.get(index) for index in range(1, 9)] == list(range(1, 9)), "or until something is missing"


def test_an_error_reaches_who_asks_and_the_batch_may_be_asked_for_again() -> None:
    failures = [OSError("gone")]

    def load(index: int) -> int:
        if index == 2 and failures:
            raise failures.pop()
        return index

    with Prefetcher(load, 0, 5) as batches:
        assert [batches.get(0), batches.get(1)] == [0, 1]
        with pytest.raises(OSError, match="gone"):
            batches.get(2)
        assert [batches.get(2), batches.get(3), batches.get(4)] == [2, 3, 4]


def test_going_back_and_forward() -> None:
    with Prefetcher(lambda index: index, 0, 50) as batches:
        assert [batches.get(index) for index in (0, 1, 2, 0, 1, 30, 31, 7, 49)] == [0, 1, 2, 0, 1, 30, 31, 7, 49]


def test_outside_of_the_range() -> None:
    with Prefetcher(lambda index: index, 0, 3) as batches:
        for index in (-1, 3):
            with pytest.raises(IndexError):
                batches.get(index)
        assert batches.get(2) == 2


def test_closing_in_mid_load_and_twice() -> None:
    entered, leave = threading.Event(), threading.Event()

    def load(index: int) -> int:
        entered.set()
        leave.wait(timeout=10)
        return index

    batches = Prefetcher(load, 0, 3)
    with pytest.raises(RuntimeError, match="not open"):
        batches.get(0)
    with batches:
        assert entered.wait(timeout=10)
        leave.set()
    batches.close()
    assert threads() == 0
    with pytest.raises(RuntimeError, match="not open"):
        batches.get(0)


def test_an_exception_in_the_block_closes_too() -> None:
    with pytest.raises(KeyError), Prefetcher(lambda index: index, 0, 3):
        raise KeyError
    assert threads() == 0
