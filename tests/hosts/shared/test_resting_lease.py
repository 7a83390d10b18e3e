"""A base that its host may move is let go of when somebody else has, or wants, the queue, and not at every step."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atelier.hosts.contract import ModelInfo
from atelier.hosts.shared.resting_lease import RestingLease


class Queue:
    """The WebUIs' FIFO queue, as far as a lease looks into it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending_threads: deque[object] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class Host:
    """A base on a device, and what a lease did with it."""

    def __init__(self, device: str) -> None:
        self.fifo, self.rested = Queue(), threading.Event()
        self.done: list[str] = []
        parts = SimpleNamespace(device=torch.device(device))
        self.lent = SimpleNamespace(
            parts=parts,
            rest=self.rest,
            follow=lambda: self.done.append("follow"),
            let_go=lambda: None,
            moved=lambda: False,
        )

    def rest(self) -> None:
        self.done.append("rest")
        self.rested.set()

    def queue(self) -> Queue:
        return self.fifo

    def loaded_model(self) -> ModelInfo:
        return SimpleNamespace(identity="a", refusal=None, title="a")  # type: ignore[return-value]

    def borrow(self, parts: frozenset[str]) -> Any:
        return self.lent

    def remove_loras(self) -> None: ...

    def load_to_device(self) -> None: ...

    def restore_placement(self) -> None: ...


@contextmanager
def leased(host: Host):  # type: ignore[no-untyped-def]
    lease = RestingLease(host, frozenset({"unet"}))
    with lease:
        yield lease


def test_steps_that_nobody_waits_for_keep_the_views() -> None:
    host = Host("cuda")
    with leased(host) as lease:
        for _ in range(3):
            with lease.turn():
                pass
    assert host.done == ["follow"] * 3


def test_who_waits_finds_the_memory_free() -> None:
    host, seen = Host("cuda"), list[str]()

    def picture() -> None:
        with host.fifo:
            host.fifo._pending_threads.clear()
            seen.extend(host.done)

    other = threading.Thread(target=picture)
    with leased(host) as lease:
        with lease.turn():
            host.fifo._pending_threads.append(other)
            other.start()
        other.join()
    assert host.done == seen == ["follow", "rest"]


@pytest.mark.parametrize(("device", "expected"), [("cuda", ["follow", "rest", "follow"]), ("cpu", ["follow"] * 2)])
def test_who_came_between_two_turns_does_too(device: str, expected: list[str]) -> None:
    host = Host(device)
    with leased(host) as lease:
        with lease.turn():
            pass
        taken, seen = threading.Event(), list[str]()

        def picture() -> None:
            with host.fifo:
                taken.set()
                if device == "cuda":
                    assert host.rested.wait(30)
                seen.extend(host.done)

        other = threading.Thread(target=picture)
        other.start()
        taken.wait()
        with lease.turn():
            pass
        other.join()
    assert host.done == expected and seen == expected[:-1]


def test_a_base_that_was_moved_is_let_go_of_before_it_is_brought_again() -> None:
    """Or its old memory would lie on the device beside the new: twice an SDXL on a card of 8 GB."""
    host = Host("cuda")
    with leased(host) as lease:
        with lease.turn():
            pass
        host.lent.moved = lambda: True
        host.load_to_device = lambda: host.done.append("brought")  # type: ignore[method-assign]
        with lease.turn():
            pass
    assert host.done == ["follow", "rest", "brought", "follow"]
