"""What a record says of a run's progress, states and saves, and what it makes of damaged numbers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from atelier.jobs.record import Record


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.create(tmp_path / "run", {"settings.toml": "a = 1\n"}, {"name": "cat"})


def test_the_peak_of_memory_stays_when_memory_falls(record: Record) -> None:
    seen = []
    for step, memory in enumerate([1000, 3000, 2000, 0, 2500], 1):
        record.progress(step, 10, 1, 1, 0.5, 4.5, memory)
        progress = record.view()["progress"]
        seen.append((progress["memory"], progress["peak_memory"]))
    assert seen == [(1000, 1000), (3000, 3000), (2000, 3000), (0, 3000), (2500, 3000)]
    record.keep_progress()
    again = Record.open(record.folder)
    again.progress(6, 10, 1, 1, 0.5, 2.0, 500)
    assert again.view()["progress"]["peak_memory"] == 3000, "a run that goes on keeps the peak of its first part"


@pytest.mark.parametrize("peak", ["much", [], None, -5, 1e300, True])
def test_a_damaged_peak_is_none(record: Record, peak: object) -> None:
    """A run that goes on writes its progress whatever it finds there."""
    head = record.folder / "job.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "progress": {"peak_memory": peak}}))
    again = Record.open(record.folder)
    again.progress(1, 10, 1, 1, 0.5, 4.5, 700)
    assert again.view()["progress"]["peak_memory"] == 700


def test_progress_is_what_was_told_last(record: Record) -> None:
    told = {"step": 3, "total": 40, "epoch": 1, "epochs": 5, "seconds_per_step": 0.25, "eta": 9.25, "memory": 7000}
    record.progress(2, 20, 2, 4, 0.5, 4.0, 6000)
    record.progress(**told)
    for found in (record, _reopened(record)):
        assert found.view()["progress"] == {**told, "peak_memory": 7000}
        assert (found.step, found.total) == (3, 40)


def _reopened(record: Record) -> Record:
    record.keep_progress()
    return Record.open(record.folder)


def test_events_whose_numbers_repeat_or_fall_are_left_out(record: Record) -> None:
    """As after a copy of a record, or two writers. The page asks for what comes after a number, so each is one."""
    numbers = [1, 2, 2, 5, 3, 5, 6, 0, -1]
    rows = [{"id": number, "kind": "message", "text": str(place)} for place, number in enumerate(numbers)]
    (record.folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = Record.open(record.folder)
    assert [(event["id"], event["text"]) for event in again.view()["events"]] == [
        (1, "0"), (2, "1"), (5, "3"), (6, "6"),
    ]  # fmt: skip
    assert [event["id"] for event in again.view(2)["events"]] == [5, 6]
    assert again.message("next")["id"] == 7


def test_when_a_run_began_and_ended(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins once, at its first state after the queue, and a run that goes on has not ended."""
    seen = []
    for now, state in enumerate(["queued", "preparing", "running", "done", "queued", "preparing", "failed"]):
        monkeypatch.setattr(time, "time", lambda now=now: float(now))
        record.status(state, f"at {now}")
        seen.append((record.about.get("started"), record.about.get("ended")))
    assert seen == [(None, None), (1.0, None), (1.0, None), (1.0, 3.0), (1.0, 3.0), (1.0, None), (1.0, 6.0)]
    assert Record.open(record.folder).about == record.about


def test_the_same_state_is_told_once(record: Record) -> None:
    for state, message in [("running", ""), ("running", ""), ("running", "Again."), ("paused", "Again.")]:
        record.status(state, message)
    events = [(event["state"], event["message"]) for event in record.view()["events"]]
    assert events == [("running", ""), ("running", "Again."), ("paused", "Again.")]


def test_saved_files_of_a_damaged_record(record: Record) -> None:
    rows = [
        {"path": "a.safetensors", "step": 1, "epoch": 1, "save": "final"}, {"path": 5, "step": 1, "epoch": 1},
        {"path": "b", "step": "1", "epoch": 1}, {"path": "c", "step": 1, "epoch": None}, {"path": "d"},
        {"path": "e.safetensors", "step": 2, "epoch": 1, "save": 7}, {"path": "f.safetensors", "step": 3, "epoch": 1},
    ]  # fmt: skip
    lines = [json.dumps({"id": number, "kind": "saved", **row}) for number, row in enumerate(rows, 1)]
    (record.folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    assert Record.open(record.folder).saved_files() == [
        (Path("a.safetensors"), 1, 1, "final"), (Path("e.safetensors"), 2, 1, "step"),
        (Path("f.safetensors"), 3, 1, "step"),
    ]  # fmt: skip


def test_the_newest_of_a_kind(record: Record) -> None:
    assert record.newest("message") is None
    record.message("first")
    record.message("second")
    record.event("plan", expected=1)
    newest = record.newest("message")
    assert newest is not None and newest["text"] == "second"
    newest["text"] = "changed"
    assert [event.get("text") for event in record.view()["events"]] == ["first", "second", None]
