"""What the page asks reaches the trainer once, from any thread, and a waiting trainer wakes for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from atelier.jobs.control import Control
from tests.support.waiting import until

PATIENCE = 30.0


def woken(wait: Callable[[], None], ask: Callable[[], None]) -> bool:
    """True when `wait`, running in a thread of its own, returns after `ask`."""
    done = threading.Event()

    def waiter() -> None:
        wait()
        done.set()

    thread = threading.Thread(target=waiter, daemon=True)
    thread.start()
    ask()
    return done.wait(PATIENCE)


def test_requests_are_taken_once() -> None:
    control = Control()
    assert not control.take_save()
    assert not control.take_sample()
    control.save_now()
    control.save_now()
    control.sample_now()
    assert control.take_save()
    assert not control.take_save()
    assert control.take_sample()
    assert not control.take_sample()


def test_pause_and_resume() -> None:
    control = Control()
    control.pause()
    assert control.paused
    control.resume()
    assert not control.paused


def test_stop_is_final_and_ends_a_pause() -> None:
    control = Control()
    control.pause()
    control.stop()
    assert control.stopping
    assert not control.paused
    control.pause()
    assert not control.paused
    control.resume()
    assert control.stopping


@pytest.mark.parametrize("ask", ["resume", "stop"])
def test_a_paused_trainer_wakes(ask: str) -> None:
    control = Control()
    control.pause()
    assert woken(control.wait_while_paused, getattr(control, ask))


def test_a_save_does_not_end_a_pause() -> None:
    control = Control()
    control.pause()
    control.save_now()
    control.wait_while_paused(0)
    assert control.paused
    assert control.take_save()


def test_nothing_to_wait_for_returns_at_once() -> None:
    control = Control()
    control.wait_while_paused()
    control.stop()
    control.wait_for_request()
    assert control.stopping


def test_a_wait_for_any_request_wakes_for_each() -> None:
    control = Control()
    for ask in (control.save_now, control.sample_now, control.pause, control.resume, control.stop):
        # The waiter may start after the request: ask until it wakes.
        done = threading.Event()
        thread = threading.Thread(target=lambda done=done: (control.wait_for_request(), done.set()), daemon=True)
        thread.start()

        def asked_until_it_wakes(done: threading.Event = done, ask: Callable[[], None] = ask) -> bool:
            ask()
            return done.wait(0.001)

        until(asked_until_it_wakes, "waking")
        thread.join(PATIENCE)
        assert not thread.is_alive()
