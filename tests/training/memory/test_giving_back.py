"""What a run held is gone when it ends or rests, without waiting for Python's collector."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.jobs.control import Control
from atelier.training.device.release import forget_frames, give_back_memory
from atelier.training.progress import monitor
from atelier.training.run import train
from atelier.training.session import Session
from tests.support.process_memory import status
from tests.support.training_fakes import MemoryRecord, TinyHost, run, tiny_job, tiny_parts, write_pictures


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Weak references to the weights and the optimiser's numbers of each session, taken after its first step."""
    found: list[Any] = []
    step = Session.take_step

    def watched(session: Session) -> float:
        waited = step(session)
        if not found:
            moments = next(iter(session.learner.stepper.optimizer.state.values()))
            found.extend(
                weakref.ref(each) for each in (session.learner.stepper.parameters[0], session, moments["exp_avg"])
            )
        return waited

    monkeypatch.setattr(Session, "take_step", watched)
    return found


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_a_run_that_is_done(whole: bool, seen: list[Any], tmp_path: Path) -> None:
    job = tiny_job(write_pictures(tmp_path / "pictures", 2), train_whole_model=whole, max_train_steps=2)
    assert run(job, tmp_path).outcome.state == "done"
    assert seen and [each() for each in seen] == [None] * len(seen)


@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_a_run_that_failed(seen: list[Any], tmp_path: Path) -> None:
    job = tiny_job(write_pictures(tmp_path / "pictures", 2), max_train_steps=4)

    def fail(step: int, control: Control) -> None:
        raise RuntimeError("the graphics driver went away")

    try:
        run(job, tmp_path, fail)
    except RuntimeError as error:
        kept = error  # as a log does, until it has written the traceback
    assert seen and [each() for each in seen] == [None] * len(seen)
    assert "driver" in str(kept)


@pytest.mark.slow
@pytest.mark.parametrize("network", [{}, {"network_args": ["algo=loha"], "network_module": "lycoris.kohya"}])
def test_a_paused_run_holds_nothing_of_the_host_s_model(
    network: dict[str, Any], seen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host may load another: the first one must not stay in memory beside it."""
    monkeypatch.setattr(monitor, "STEPS", 1)
    control, record, host = Control(), MemoryRecord(tmp_path / "record"), TinyHost(tmp_path)
    parts = host.parts
    lent = [weakref.ref(next(module.parameters())) for module in parts.modules]
    del parts
    held: list[Any] = []

    def switch() -> None:
        host.put(tiny_parts("v_prediction"), "another")
        gc.collect()
        held.extend(each() for each in lent)
        held.extend(each() for each in seen[2:])
        control.stop()

    record.on_status["paused"] = switch
    record.on_step = lambda step: control.pause()
    job = tiny_job(write_pictures(tmp_path / "pictures", 2), max_train_steps=4, **network)
    outcome = train(job, host, record, control)
    assert held == [None] * 4
    assert outcome.state == "stopped" and outcome.path is not None and outcome.path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' C libraries give memory back by themselves")
def test_freed_memory_between_what_is_in_use_is_given_back() -> None:
    before, freed, kept = status("VmRSS"), [], []
    for _ in range(1000):
        freed.append(torch.ones(100_000))
        kept.append(torch.ones(50))
    del freed
    give_back_memory()
    assert status("VmRSS") - before < 100 * 2**20


def test_an_error_that_is_its_own_cause_ends() -> None:
    """As `raise error from error` makes it: its frames are cleared once, and the run ends with it."""
    try:
        try:
            raise ValueError("a")
        except ValueError as error:
            raise error from error
    except ValueError as error:
        caught = error
    assert caught.__cause__ is caught
    forget_frames(caught)
