"""A run that was stopped, paused, robbed of its base, shared or damaged ends with the bits of one left in peace."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atelier.config.errors import AtelierError
from atelier.hosts.contract import SampleRequest
from atelier.jobs.control import Control
from atelier.training.device.savings import MemorySavings
from atelier.training.progress import step_schedule as rhythm_module
from atelier.training.progress.state import read_newest
from atelier.training.progress.step_schedule import Throttle
from tests.support.training_fakes import (
    MemoryRecord,
    Run,
    TinyHost,
    assert_same,
    run,
    tiny_job,
    tiny_parts,
    write_pictures,
)

pytestmark = pytest.mark.slow

STEPS = 6
CHANCES: dict[str, Any] = {
    "max_train_steps": STEPS, "gradient_accumulation_steps": 2, "network_dropout": 0.3, "shuffle_caption": True,
    "caption_dropout_rate": 0.3, "flip_aug": True, "lr_scheduler": "cosine", "lr_warmup_steps": 2,
    "noise_offset": 0.1, "noise_offset_random_strength": True, "ip_noise_gamma": 0.1, "multires_noise_iterations": 2,
    "network_args": ["rank_dropout=0.2", "module_dropout=0.2"], "color_aug": True, "random_crop": True,
}  # fmt: skip
"""Everything that draws random numbers."""

KINDS: dict[str, dict[str, Any]] = {
    "all chances": CHANCES,
    "Prodigy": {"max_train_steps": STEPS, "optimizer_type": "Prodigy", "learning_rate": 1.0},
    "Adafactor": {"max_train_steps": STEPS, "optimizer_type": "Adafactor", "lr_scheduler": "adafactor"},
    "cached on disk": {"max_train_steps": STEPS, "cache_latents_to_disk": True, "network_train_unet_only": True},
    "small weights as one": {
        **CHANCES,
        "network_args": ["rank_dropout=0.2"],
        "network_train_unet_only": True,
        "ema_decay": 0.9,
        "ema_save": "beside",
        "scale_weight_norms": 0.05,
    },
    "norms held down": {"max_train_steps": STEPS, "scale_weight_norms": 0.05, "conv_dim": 2, "conv_alpha": 1.0},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 5, side=48)


@pytest.fixture(scope="module")
def straight(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run left in peace, of each kind."""
    return {name: run(tiny_job(pictures, **kind), tmp_path_factory.mktemp("straight")) for name, kind in KINDS.items()}


def again(first: Run, pictures: Path, root: Path, **settings: Any) -> Run:
    """The same run in a new process's memory: another host, another record over the same folder."""
    record = MemoryRecord(first.record.folder)
    record.saves = list(first.record.saves)
    return run(tiny_job(pictures, **settings), root, record=record)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopped_and_resumed(kind: str, stop_at: int, pictures: Path, straight: dict[str, Run], tmp_path: Path) -> None:
    def stop(step: int, control: Control) -> None:
        if step == stop_at:
            control.stop()

    first = run(tiny_job(pictures, **KINDS[kind]), tmp_path, stop)
    assert (first.outcome.state, first.outcome.steps) == ("stopped", stop_at)
    assert first.outcome.path is not None and first.outcome.path.stem == f"tiny-step{stop_at:08d}"
    second = again(first, pictures, tmp_path, **KINDS[kind])
    assert (second.outcome.state, second.outcome.steps) == ("done", STEPS)
    assert second.record.told(f"Going on from step {stop_at}.")
    assert [row[0] for row in second.record.rows] == list(range(stop_at + 1, STEPS + 1))
    assert first.record.values + second.record.values == straight[kind].record.values
    assert_same(second.tensors, straight[kind].tensors)


def test_paused(pictures: Path, straight: dict[str, Run], tmp_path: Path) -> None:
    control, record = Control(), MemoryRecord(tmp_path / "record")
    record.on_status["paused"] = control.resume
    host = TinyHost(tmp_path)
    held: list[int] = []
    record.on_status["running"] = lambda: held.append(len(host.leases))

    def pause(step: int, control: Control) -> None:
        if step in (2, 3):
            control.pause()

    done = run(tiny_job(pictures, **CHANCES), tmp_path, pause, host, record, control)
    states = [state for state, _ in record.statuses]
    assert states == ["preparing", "running", "paused", "running", "paused", "running", "done"]
    assert held == [1, 1, 1] and host.leases == []
    assert record.values == straight["all chances"].record.values
    assert_same(done.tensors, straight["all chances"].tensors)


def test_stopped_while_paused(pictures: Path, tmp_path: Path) -> None:
    control, record = Control(), MemoryRecord(tmp_path / "record")
    record.on_status["paused"] = control.stop
    done = run(tiny_job(pictures), tmp_path, lambda step, control: control.pause(), None, record, control)
    assert (done.outcome.state, done.outcome.steps, done.files) == (
        "stopped", 1, ["tiny-step00000001.json", "tiny-step00000001.safetensors"],
    )  # fmt: skip


@pytest.mark.parametrize("turn", [1, 2, 5, 8, 9])
def test_another_model_is_loaded_for_a_while(
    turn: int, pictures: Path, straight: dict[str, Run], tmp_path: Path
) -> None:
    """Turns: one to build the network, then two for each step of two batches."""
    host, record = TinyHost(tmp_path), MemoryRecord(tmp_path / "record")
    record.on_status["waiting"] = lambda: host.put(tiny_parts())

    def switch(number: int) -> None:
        if number == turn:
            host.put(tiny_parts("v_prediction"), "another")

    host.on_turn = switch
    done = run(tiny_job(pictures, **CHANCES), tmp_path, host=host, record=record)
    assert [state for state, _ in record.statuses].count("waiting") == 1
    assert next(text for state, text in record.statuses if state == "waiting")
    assert_same(done.tensors, straight["all chances"].tensors)


def test_the_same_model_is_loaded_anew(pictures: Path, straight: dict[str, Run], tmp_path: Path) -> None:
    host = TinyHost(tmp_path)
    done = run(tiny_job(pictures, **CHANCES), tmp_path, lambda step, _: host.put(tiny_parts()), host)
    assert ("waiting" not in {state for state, _ in done.record.statuses}) and host.leases == []
    assert_same(done.tensors, straight["all chances"].tensors)


def test_another_model_while_paused_is_not_trained_on(pictures: Path, straight: dict[str, Run], tmp_path: Path) -> None:
    control, record, host = Control(), MemoryRecord(tmp_path / "record"), TinyHost(tmp_path)

    def switch_and_resume() -> None:
        host.put(tiny_parts("v_prediction"), "another")
        control.resume()

    record.on_status["paused"] = switch_and_resume
    record.on_status["waiting"] = lambda: host.put(tiny_parts())
    pause = {2}

    def at(step: int, control: Control) -> None:
        if step in pause:
            control.pause()

    done = run(tiny_job(pictures, **CHANCES), tmp_path, at, host, record, control)
    assert "waiting" in {state for state, _ in record.statuses}
    assert_same(done.tensors, straight["all chances"].tensors)


def test_stopped_while_it_waits_for_its_model(pictures: Path, tmp_path: Path) -> None:
    host, control, record = TinyHost(tmp_path), Control(), MemoryRecord(tmp_path / "record")
    record.on_status["waiting"] = control.stop

    def switch(step: int, control: Control) -> None:
        if step == 3:
            host.put(tiny_parts(), "another")

    done = run(tiny_job(pictures, **CHANCES), tmp_path, switch, host, record, control)
    assert (done.outcome.state, done.outcome.steps) == ("stopped", 3)
    assert done.outcome.path is not None and done.outcome.path.exists()


def test_resumed_and_stopped_before_a_step(pictures: Path, tmp_path: Path) -> None:
    """The base goes while a second session begins: what the first one learnt is still written."""
    host, control, record = TinyHost(tmp_path), Control(), MemoryRecord(tmp_path / "record")
    record.on_status["paused"] = control.resume
    record.on_status["waiting"] = control.stop
    paused_at = {2}

    def at(step: int, control: Control) -> None:
        if step in paused_at:
            control.pause()
            seen = host.turns
            host.on_turn = lambda number: host.put(tiny_parts(), "another") if number == seen + 1 else None

    done = run(tiny_job(pictures, **CHANCES), tmp_path, at, host, record, control)
    assert (done.outcome.state, done.outcome.steps) == ("stopped", 2)
    assert done.outcome.path is not None and done.outcome.path.exists()


def test_the_host_draws_between_the_steps(pictures: Path, straight: dict[str, Run], tmp_path: Path) -> None:
    """Its pictures are those that it draws with no training running, and training goes on to the same bits."""
    request = SampleRequest("a cat", width=64, height=64, steps=2, seed=5, sampler="Euler a")
    host = TinyHost(tmp_path)
    quiet = host.sample(request)
    assert quiet is not None
    drawn, ended = [], threading.Event()

    def draw_on() -> None:
        while not ended.is_set():
            drawn.append(host.sample(request))

    thread = threading.Thread(target=draw_on, name="test-drawing")
    thread.start()
    try:
        done = run(tiny_job(pictures, **CHANCES), tmp_path, host=host)
    finally:
        ended.set()
        thread.join()
    assert len(drawn) >= STEPS
    assert {picture.tobytes() for picture in drawn if picture is not None} == {quiet.tobytes()}
    assert_same(done.tensors, straight["all chances"].tensors)


def test_a_damaged_state_is_passed_over(pictures: Path, straight: dict[str, Run], tmp_path: Path) -> None:
    def at(step: int, control: Control) -> None:
        if step == 5:
            control.stop()

    settings = {**CHANCES, "save_every_n_steps": 2}
    first = run(tiny_job(pictures, **settings), tmp_path, at)
    states = sorted((first.record.folder / "state").iterdir())
    assert [int(path.stem) for path in states] == [4, 5]
    content = bytearray(states[-1].read_bytes())
    content[-100] ^= 0xFF
    states[-1].write_bytes(bytes(content))
    second = again(first, pictures, tmp_path, **settings)
    assert second.record.told("Going on from step 4.")
    assert_same(second.tensors, straight["all chances"].tensors)


def test_a_finished_run_writes_its_file_again(pictures: Path, straight: dict[str, Run], tmp_path: Path) -> None:
    first = run(tiny_job(pictures, **CHANCES), tmp_path)
    assert first.outcome.path is not None
    first.outcome.path.unlink()
    second = again(first, pictures, tmp_path, **CHANCES)
    assert second.record.rows == [] and second.outcome.steps == STEPS
    assert_same(second.tensors, straight["all chances"].tensors)


def test_killed_between_the_file_and_its_note(pictures: Path, tmp_path: Path) -> None:
    """The file is there, the record does not know of it: it is recognised, not saved under another name."""
    first = run(tiny_job(pictures, **CHANCES), tmp_path)
    first.record.saves.clear()
    second = again(first, pictures, tmp_path, **CHANCES)
    assert second.files == first.files
    assert_same(second.tensors, first.tensors)


def test_more_steps_after_the_end(pictures: Path, tmp_path: Path) -> None:
    first = run(tiny_job(pictures, max_train_steps=3), tmp_path)
    longer = again(first, pictures, tmp_path, max_train_steps=6)
    at_once = run(tiny_job(pictures, max_train_steps=6), tmp_path / "at once")
    assert longer.record.told("Going on from step 3.")
    assert_same(longer.tensors, at_once.tensors)


def test_a_state_of_another_model_or_network_is_refused(pictures: Path, tmp_path: Path) -> None:
    first = run(tiny_job(pictures, max_train_steps=2), tmp_path)
    with pytest.raises(AtelierError, match="another rank"):
        again(first, pictures, tmp_path, max_train_steps=4, network_dim=3)
    other = TinyHost(tmp_path)
    other.put(tiny_parts(), "another")
    with pytest.raises(AtelierError, match="another model"):
        run(tiny_job(pictures, max_train_steps=4), tmp_path, host=other, record=MemoryRecord(first.record.folder))


def test_states_are_kept_by_the_rhythm(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def at(step: int, control: Control) -> None:
        state = read_newest(tmp_path / "record" / "state")
        kept.append(state.step if state else 0)

    monkeypatch.setattr(Throttle, "due", lambda self: True)
    run(tiny_job(pictures, max_train_steps=4), tmp_path, at)
    assert kept == [0, 1, 2, 3]


def test_the_rhythm_goes_by_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([30.0, 59.0, 61.0, 100.0, 122.0])
    monkeypatch.setattr(rhythm_module, "time", SimpleNamespace(monotonic=now.__next__))
    rhythm = Throttle(60.0, 0.0)
    assert [rhythm.due() for _ in range(5)] == [False, False, True, False, True]


def test_a_state_that_takes_long_is_written_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for one: the next is due after two hundred."""
    now = iter([100.0, 110.0, 160.0, 299.0, 301.0])
    monkeypatch.setattr(rhythm_module, "time", SimpleNamespace(monotonic=now.__next__))
    rhythm = Throttle(60.0, 100.0)
    with rhythm.timed():
        pass
    assert [rhythm.due() for _ in range(3)] == [False, False, True]


def test_the_clock_is_set_back_during_a_run(
    pictures: Path, straight: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(2_000_000_000, -86_400)
    monkeypatch.setattr("time.time", lambda: float(next(seconds)))
    done = run(tiny_job(pictures, **CHANCES), tmp_path)
    assert done.record.speeds[-1]["seconds_per_step"] >= 0 and done.record.speeds[-1]["eta"] == 0
    assert_same(done.tensors, straight["all chances"].tensors)


def test_savers_are_taken_once() -> None:
    savings = MemorySavings()
    assert savings.take_next() and savings.gradient_checkpointing and not savings.take_next()
