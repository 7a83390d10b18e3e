"""The queue is served in the order of arrival, and no one who gave up is waited for."""

from __future__ import annotations

import threading

import pytest

from atelier.hosts.embedded.queue_lock import QueueLock
from tests.support.waiting import until


def wait_until_waiting(lock: QueueLock, count: int) -> None:
    until(lambda: lock.waiting() >= count, f"waiting by {count}")


def test_served_in_order_of_arrival() -> None:
    lock = QueueLock()
    order: list[int] = []
    threads = []

    def work(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        for number in range(8):
            thread = threading.Thread(target=work, args=(number,))
            thread.start()
            threads.append(thread)
            wait_until_waiting(lock, number + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_a_waiting_picture_comes_before_the_next_training_step() -> None:
    lock = QueueLock()
    events: list[str] = []
    lock.acquire()

    def picture() -> None:
        with lock:
            events.append("picture")

    thread = threading.Thread(target=picture)
    thread.start()
    wait_until_waiting(lock, 1)
    lock.release()
    with lock:  # the trainer takes it again at once, and yet is second
        events.append("step")
    thread.join()
    assert events == ["picture", "step"]


def test_non_blocking_and_timeout() -> None:
    lock = QueueLock()
    assert lock.acquire(blocking=False)
    assert not lock.acquire(blocking=False)
    assert not lock.acquire(timeout=0.01)
    assert lock.waiting() == 0
    lock.release()
    assert not lock.locked()
    assert lock.acquire(timeout=0.01)
    lock.release()


def test_release_of_a_free_lock_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        QueueLock().release()


def test_released_on_an_error_inside() -> None:
    lock = QueueLock()
    with pytest.raises(ValueError), lock:
        raise ValueError
    assert not lock.locked()
