"""A run ends with samples of what it learned, also when it is stopped, and says what it does while it draws."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier.jobs.control import Control
from atelier.training.pictures import previews
from atelier.training.progress.state import read_newest
from tests.support.training_fakes import MemoryRecord, Run, run, tiny_job, write_pictures

ENDS = {"sample_at_end": True, "sample_at_first": True, "sample_prompts": "a zwx --s 2 --w 32 --h 32"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def drawn(done: Run) -> list[int]:
    """The steps of the samples."""
    return [step for step, *_ in done.record.pictures]


def card(done: Run, name: str = "tiny") -> bytes:
    """The picture beside a saved file."""
    with Image.open(done.host.folders.lora / f"{name}.png") as picture:
        return picture.convert("RGB").tobytes()


def test_a_run_shorter_than_its_rhythm_ends_with_a_sample_that_its_file_shows(pictures: Path, tmp_path: Path) -> None:
    done = run(tiny_job(pictures, sample_every_n_steps=100, save_every_n_steps=2, **ENDS), tmp_path)
    assert drawn(done) == [0, 4]
    before, after = (picture for *_, picture in done.record.pictures)
    assert before.tobytes() != after.tobytes()
    assert card(done) == after.tobytes()
    # Nothing that was learned was drawn by step 2.
    assert not (done.host.folders.lora / "tiny-step00000002.png").exists()


def test_the_last_sample_is_drawn_once(pictures: Path, tmp_path: Path) -> None:
    done = run(tiny_job(pictures, sample_every_n_steps=2, **ENDS), tmp_path)
    assert drawn(done) == [0, 2, 4]


def test_no_sample_at_the_end_where_that_is_off(pictures: Path, tmp_path: Path) -> None:
    done = run(tiny_job(pictures, **{**ENDS, "sample_at_end": False}), tmp_path)
    assert drawn(done) == [0]
    assert not (done.host.folders.lora / "tiny.png").exists()


def test_stop_draws_a_sample_after_the_state_is_kept(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[int] = []
    real = previews.sample

    def watched(*arguments: object, **more: object) -> object:
        state = read_newest(tmp_path / "record" / "state")
        states.append(state.step if state else 0)
        return real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(previews, "sample", watched)
    done = run(tiny_job(pictures, **ENDS), tmp_path, lambda step, control: step == 2 and control.stop())
    assert (done.outcome.state, done.outcome.steps) == ("stopped", 2)
    assert (drawn(done), states) == ([0, 2], [0, 2])
    assert card(done, "tiny-step00000002") == done.record.pictures[1][3].tobytes()
    assert done.record.statuses[-1][1] == "Stopped after step 2. What was learned is kept."


def test_stop_again_ends_the_drawing(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control, real, steps = Control(), previews.sample, []

    def pressed_again(*arguments: object, **more: object) -> object:
        def on_step(*step: object) -> None:
            steps.append(step[0])
            if control.stopping:
                control.stop(at_once=True)

        return real(*arguments, **{**more, "on_step": on_step})  # type: ignore[arg-type]

    monkeypatch.setattr(previews, "sample", pressed_again)
    done = run(tiny_job(pictures, **ENDS), tmp_path, lambda step, asked: step == 1 and asked.stop(), control=control)
    assert (done.outcome.state, drawn(done), steps) == ("stopped", [0], [1, 2, 1])


def test_a_run_that_ends_at_once_draws_nothing(pictures: Path, tmp_path: Path) -> None:
    done = run(tiny_job(pictures, **ENDS), tmp_path, lambda step, control: step == 2 and control.stop(at_once=True))
    assert (done.outcome.state, drawn(done)) == ("stopped", [0])


def test_a_run_that_learned_nothing_says_so(pictures: Path, tmp_path: Path) -> None:
    control, record = Control(), MemoryRecord(tmp_path / "record")
    record.on_status["preparing"] = control.stop
    done = run(tiny_job(pictures, **ENDS), tmp_path, record=record, control=control)
    assert (done.outcome.state, done.outcome.path, drawn(done)) == ("stopped", None, [])
    assert record.statuses[-1] == ("stopped", "Stopped before the first step. Nothing was learned yet.")


def test_it_says_what_it_does(pictures: Path, tmp_path: Path) -> None:
    done = run(tiny_job(pictures, **{**ENDS, "sample_prompts": "a zwx --s 2 --w 32 --h 32\na dog --s 1"}), tmp_path)
    told = done.record.activities
    assert ("Looking at the pictures", 4, 4) in told
    assert [one for one in told if one[0].startswith("Drawing sample 1")] == [
        ("Drawing sample 1 of 2 before training", None, None),
        ("Drawing sample 1 of 2 before training", 1, 2),
        ("Drawing sample 1 of 2 before training", 2, 2),
        ("Drawing sample 1 of 2 of step 4", None, None),
        ("Drawing sample 1 of 2 of step 4", 1, 2),
        ("Drawing sample 1 of 2 of step 4", 2, 2),
    ]
    assert ("Encoding the pictures", 2, 4) in told
    assert ("Encoding the pictures", 4, 4) in told
    encoded = told.index(("Encoding the pictures", 4, 4))
    assert told[encoded + 1] == told[encoded + 2] == ("", None, None)  # when they are encoded, and after the step
    assert told[-1] == ("", None, None)
    assert told.index(("Taking the first step", None, None)) < told.index(("Encoding the pictures", 2, 4))
