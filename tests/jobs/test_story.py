"""Each event that a person would want to look up has its sentence, also in records of 0.1.0."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier.jobs.record import Record
from atelier.jobs.story import plain_name, save_label, told


def test_a_run_tells_what_happened_in_order(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run", {}, {"name": "cat"})
    record.status("preparing", "Looking at the pictures.")
    record.status("preparing", "Drawing the class pictures.")
    record.status("running")
    record.sample(0, 0, "a zwx", Image.new("RGB", (8, 8)))
    record.sample(0, 1, "a zwx", Image.new("RGB", (8, 8)))
    record.progress(12, 100, 1, 1, 0.5, 44.0, 0)
    record.status("paused", "Paused. The device is free.")
    record.status("running")
    record.status("waiting", "This run trains on base. Load that model to go on.")
    record.status("running")
    record.message("The WebUI built its page anew.")
    record.sample(25, 0, "a zwx", Image.new("RGB", (8, 8)))
    record.saved(tmp_path / "cat-step00000025.safetensors", 25, 1, "step")
    record.status("stopped", "Stopped after step 12.")
    events = record.view()["events"]
    assert [event["text"] for event in events if "text" in event] == [
        "Getting ready.",
        "Training began.",
        "Drew the samples before training.",
        "Paused. The device is free.",
        "Resumed at step 12.",
        "This run trains on base. Load that model to go on.",
        "The model is loaded again. Training goes on at step 12.",
        "The WebUI built its page anew.",
        "Drew the samples of step 25.",
        "Saved cat, step 25.",
        "Stopped after step 12.",
    ]
    assert all(event["time"] > 0 for event in events)
    assert [save_label(event) for event in events if event["kind"] == "saved"] == ["step 25"]


@pytest.mark.parametrize(
    ("name", "step", "epoch", "save", "plain"),
    [
        ("cat-step00000025", 25, 1, "step", "cat, step 25"),
        ("cat-step00000025-2", 25, 1, "asked", "cat-2, step 25"),
        ("cat-000004-ema", 80, 4, "epoch", "cat-ema, epoch 4"),
        ("cat", 100, 5, "final", "cat"),
        ("cat-step00000030", 25, 1, "step", "cat-step00000030"),
        ("-step00000025", None, None, "step", "-step00000025"),
    ],
)
def test_names_are_told_without_zeros(name: str, step: int, epoch: int, save: str, plain: str) -> None:
    event = {"kind": "saved", "name": name, "step": step, "epoch": epoch, "save": save}
    assert plain_name(event) == plain
    assert told(event) == f"Saved {plain}."


def test_events_of_earlier_versions_are_told(tmp_path: Path) -> None:
    assert told({"kind": "status", "state": "queued", "message": ""}) == "Waiting in the queue."
    assert told({"kind": "status", "state": "preparing", "message": "Looking at the pictures."}) == "Getting ready."
    assert told({"kind": "status", "state": "running", "message": ""}) == "Training began."
    assert told({"kind": "status", "state": "done"}) == "Done."
    assert told({"kind": "validation", "step": 3, "loss": 0.5}) == ""
    assert told({"kind": "message", "text": 5}) == ""


def test_what_goes_on_ends_with_the_state(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run", {}, {"name": "cat"})
    record.status("running")
    record.activity("Drawing the samples", 3, 20)
    assert record.doing == {"text": "Drawing the samples", "done": 3, "total": 20}
    record.activity()
    assert record.doing is None
    record.activity("Drawing the samples")
    record.status("paused", "Paused.")
    assert record.doing is None


def test_the_newest_save_is_known_after_a_restart(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run", {}, {"name": "cat"})
    assert record.newest_save() is None
    for step in (25, 50):
        record.saved(tmp_path / f"cat-step{step:08d}.safetensors", step, 1, "step")
    record = Record.open(tmp_path / "run")
    found = record.newest_save()
    assert found is not None
    assert (found["name"], found["step"]) == ("cat-step00000050", 50)
    # A record of 0.1.0 has it among its events only.
    record = Record.open(tmp_path / "run")
    del record.about["saved"]
    assert record.newest_save() == found
