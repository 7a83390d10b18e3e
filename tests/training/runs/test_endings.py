"""A run that is ended from outside, wherever it is: by the person, by Ctrl-C, by a host that ends its threads."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.jobs.control import Control
from atelier.training import batch_losses as losses_module
from atelier.training import session as session_module
from atelier.training.inputs import latents as latents_module
from atelier.training.memory import for_run as memory_run
from atelier.training.optim import stepper as stepper_module
from atelier.training.pictures import previews as previews_module
from atelier.training.progress.state import read_newest
from atelier.training.run import train
from tests.support.training_fakes import (
    MemoryRecord,
    Run,
    TinyHost,
    assert_same,
    predicts_nothing,
    run,
    tiny_job,
    unchanged,
    write_pictures,
)

pytestmark = pytest.mark.slow

STEPS = 6
SETTINGS: dict[str, Any] = {
    "max_train_steps": STEPS, "network_dropout": 0.3, "save_every_n_steps": 2, "sample_every_n_steps": 3,
    "sample_prompts": "a cat --s 3 --w 32 --h 32\na dog --s 3 --w 32 --h 32",
}  # fmt: skip
FIRST_SAMPLE_TURN = 5
"""The network is built in one turn, three steps take one each, then the samples begin, a turn for each of theirs."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def straight(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tiny_job(pictures, **SETTINGS), tmp_path_factory.mktemp("straight"))


def again(first: MemoryRecord, pictures: Path, root: Path) -> Run:
    record = MemoryRecord(first.folder)
    record.saves = list(first.saves)
    return run(tiny_job(pictures, **SETTINGS), root, record=record)


# -- Stop --------------------------------------------------------------------------------------------------------------


def test_stop_while_it_prepares(pictures: Path, tmp_path: Path) -> None:
    control, record, host = Control(), MemoryRecord(tmp_path / "record"), TinyHost(tmp_path)
    record.on_status["preparing"] = control.stop
    done = run(tiny_job(pictures, **SETTINGS), tmp_path, host=host, record=record, control=control)
    assert (done.outcome.state, done.outcome.steps, done.outcome.path) == ("stopped", 0, None)
    assert done.files == [] and host.turns == 0


def test_stop_while_pictures_are_encoded(
    pictures: Path, straight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, encode = Control(), latents_module.LatentEncoder.encode

    def stopping(self: Any, *arguments: Any) -> Any:
        control.stop()
        return encode(self, *arguments)

    monkeypatch.setattr(latents_module.LatentEncoder, "encode", stopping)
    first = run(tiny_job(pictures, **SETTINGS), tmp_path, control=control)
    assert (first.outcome.state, first.outcome.steps) == ("stopped", 1)
    monkeypatch.undo()
    assert_same(again(first.record, pictures, tmp_path).tensors, straight.tensors)


@pytest.mark.parametrize("turn", [FIRST_SAMPLE_TURN, FIRST_SAMPLE_TURN + 2, FIRST_SAMPLE_TURN + 4])
def test_stop_while_it_samples(turn: int, pictures: Path, straight: Run, tmp_path: Path) -> None:
    """It ends within one sampling step, and the unfinished picture is not kept."""
    control, host = Control(), TinyHost(tmp_path)
    host.on_turn = lambda number: control.stop() if number == turn else None
    first = run(tiny_job(pictures, **SETTINGS), tmp_path, host=host, control=control)
    assert (first.outcome.state, first.outcome.steps) == ("stopped", 3)
    assert len(first.record.pictures) == (0 if turn < FIRST_SAMPLE_TURN + 4 else 1)
    assert host.turns <= turn + 1
    assert_same(again(first.record, pictures, tmp_path).tensors, straight.tensors)


def test_pause_while_it_samples(pictures: Path, straight: Run, tmp_path: Path) -> None:
    control, host, record = Control(), TinyHost(tmp_path), MemoryRecord(tmp_path / "record")
    host.on_turn = lambda number: control.pause() if number == FIRST_SAMPLE_TURN + 1 else None
    record.on_status["paused"] = control.resume
    done = run(tiny_job(pictures, **SETTINGS), tmp_path, None, host, record, control)
    assert done.outcome.state == "done"
    assert_same(done.tensors, straight.tensors)


def test_stop_while_it_saves(pictures: Path, straight: Run, tmp_path: Path) -> None:
    class Stopping(MemoryRecord):
        def saved(self, path: Path, step: int, epoch: int, kind: str) -> None:
            super().saved(path, step, epoch, kind)
            control.stop()

    control, record = Control(), Stopping(tmp_path / "record")
    first = run(tiny_job(pictures, **SETTINGS), tmp_path, record=record, control=control)
    assert (first.outcome.state, first.outcome.steps) == ("stopped", 2)
    assert [path.stem for path, *_ in record.saves] == ["tiny-step00000002"] * 2
    assert_same(again(first.record, pictures, tmp_path).tensors, straight.tensors)


def test_stop_after_the_last_step_is_too_late(pictures: Path, straight: Run, tmp_path: Path) -> None:
    done = run(tiny_job(pictures, **SETTINGS), tmp_path, lambda step, control: step == STEPS and control.stop())
    assert done.outcome.state == "done"
    assert_same(done.tensors, straight.tensors)


# -- Ctrl-C, and threads that are ended --------------------------------------------------------------------------------

PLACES = ["forward", "backward", "update", "after the update", "encoding", "sampling", "state", "file", "record"]


def interrupted(place: str, error: type[BaseException], patch: pytest.MonkeyPatch, record: MemoryRecord) -> None:
    """Has `error` appear once in the middle of something."""
    left = {"count": 2}

    def before(kept: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            left["count"] -= 1
            if left["count"] == 0:
                raise error
            return kept(*arguments, **more)

        return call

    def after(kept: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            result = kept(*arguments, **more)
            left["count"] -= 1
            if left["count"] == 0:
                raise error
            return result

        return call

    where: dict[str, tuple[Any, str, Any]] = {
        "forward": (losses_module, "diffusion_losses", before),
        "backward": (torch.Tensor, "backward", before),
        "update": (torch.optim.AdamW, "step", after),
        "after the update": (session_module.Session, "take_step", after),
        "encoding": (latents_module.LatentEncoder, "encode", before),
        "sampling": (previews_module.OwnSampler, "draw", before),
        "state": (session_module.Session, "capture", before),
        "file": (stepper_module.Stepper, "rates", before),
    }
    if place == "record":
        record.on_step = before(lambda step: None)
        return
    owner, name, how = where[place]
    patch.setattr(owner, name, how(getattr(owner, name)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", PLACES)
def test_ended_in_the_middle(
    place: str, error: type[BaseException], pictures: Path, straight: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    record, host = MemoryRecord(tmp_path / "record"), TinyHost(tmp_path)
    interrupted(place, error, monkeypatch, record)
    with pytest.raises(error):
        run(tiny_job(pictures, **SETTINGS), tmp_path, host=host, record=record)
    assert host.leases == [] and not host.queue.locked()
    monkeypatch.undo()
    state = read_newest(record.folder / "state")
    kept = {"update": 0, "after the update": 2, "record": 2, "forward": 1}
    if place in kept:
        assert (state.step if state else 0) == kept[place]
    assert_same(again(record, pictures, tmp_path).tensors, straight.tensors)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_thread_that_trains_is_ended_from_another(
    error: type[BaseException], pictures: Path, straight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python does it from outside: the error appears between two of the thread's own operations."""
    monkeypatch.setattr(memory_run, "remembering", predicts_nothing)
    record, host, ended = MemoryRecord(tmp_path / "record"), TinyHost(tmp_path), []
    reached, go_on = threading.Event(), threading.Event()

    def at(step: int) -> None:
        if step == 3:
            reached.set()
            assert go_on.wait(60)

    record.on_step = at

    def work() -> None:
        try:
            train(tiny_job(pictures, **SETTINGS), host, record, Control())
        except error as found:
            ended.append(found)

    with unchanged(host):
        thread = threading.Thread(target=work, name="test-training")
        thread.start()
        assert reached.wait(60) and thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))
        go_on.set()
        thread.join(60)
    assert len(ended) == 1 and not host.queue.locked() and host.leases == []
    state = read_newest(record.folder / "state")
    assert state is not None and state.step == 3
    assert_same(again(record, pictures, tmp_path).tensors, straight.tensors)
