"""The record of a run: what is written can be read back, and nothing about the disk ends the training."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.jobs import files
from atelier.jobs.files import LineFile, plain, read_json, read_lines, write_bytes
from atelier.jobs.losses import SHOWN, LossCurve, thinned
from atelier.jobs.record import EVENTS_SENT, Record
from tests.support.jobs_fakes import PATIENCE
from tests.support.waiting import until

ATTACK = '<script>alert("x")</script> \ud800 é 名'


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.create(tmp_path / "run", {"settings.toml": "a = 1\n"}, {"name": "cat"})


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every write fails as on a full disk."""

    def no_room(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", no_room)
    monkeypatch.setattr("atelier.jobs.record.write_bytes", no_room)
    monkeypatch.setattr(Path, "open", no_room)


def written(record: Record) -> None:
    record.status("preparing", "Looking at the pictures.")
    record.status("running")
    record.message(ATTACK, "warning")
    record.losses([(1, 0.5, {"unet": 1e-4}), (2, 0.25, {"unet": 9e-5})])
    record.progress(2, 10, 1, 2, 0.5, 4.0, 1000)
    record.sample(2, 0, "a cat", Image.new("RGB", (8, 8)))
    record.saved(Path("lora") / "cat-step00000002.safetensors", 2, 1, "step")
    record.validation(2, 0.3)
    record.status("stopped", "Stopped.")


def test_what_is_written_is_read_back(record: Record) -> None:
    written(record)
    again = Record.open(record.folder)
    before, after = record.view(), again.view()
    assert json.dumps(before) == json.dumps(after)
    assert [event["kind"] for event in after["events"]] == [
        "status", "status", "message", "sample", "saved", "validation", "status",
    ]  # fmt: skip
    assert [event["id"] for event in after["events"]] == list(range(1, 8))
    assert after["progress"]["peak_memory"] == 1000
    assert after["rates"] == {"unet": 9e-5}
    assert (again.state, again.step, again.total) == ("stopped", 2, 10)
    assert again.saved_files() == [(Path("lora") / "cat-step00000002.safetensors", 2, 1, "step")]
    assert (record.folder / "samples" / "00000002-0.png").is_file()
    assert (record.folder / "settings.toml").read_text() == "a = 1\n"


def test_text_stays_as_it_is(record: Record) -> None:
    record.message(ATTACK)
    record.status("failed", ATTACK)
    record.log(ATTACK)
    shown = ATTACK.replace("\ud800", "?")
    again = Record.open(record.folder)
    assert again.view()["events"][0]["text"] == shown
    assert again.state_message == shown
    assert shown in (record.folder / "log.txt").read_text(encoding="utf-8")


def test_numbers_that_json_has_not(record: Record) -> None:
    record.losses([(1, math.nan, {"unet": math.inf}), (2, math.inf, {}), (3, 0.5, {"unet": 1e-4})])
    record.progress(3, 10, 1, 1, math.nan, math.inf, 0)
    record.event("plan", expected=math.nan, inner={"list": [math.inf, (1, 2)], 3: Path("x")})
    for found in (record, Record.open(record.folder)):
        view = json.loads(json.dumps(found.view(), allow_nan=False))
        assert [row[:2] for row in view["losses"]["rows"]] == [[1, None], [2, None], [3, 0.5]]
    assert view["events"][0]["inner"] == {"list": [None, [1, 2]], "3": "x"}
    record.keep_progress()
    assert json.loads((record.folder / "job.json").read_text())["progress"]["eta"] is None


def test_ids_count_on_when_the_clock_is_set_back(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    first = record.message("first")
    monkeypatch.setattr(time, "time", lambda: 1.0)
    second = record.message("second")
    assert (second["id"], second["time"]) == (first["id"] + 1, 1.0)
    third = Record.open(record.folder).message("third")
    assert third["id"] == second["id"] + 1
    assert [event["text"] for event in record.view(first["id"])["events"]] == ["second"]


def test_a_full_disk_costs_the_record_nothing_but_time(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    record.status("running")
    with monkeypatch.context() as patched:
        full(patched)
        record.losses([(1, 0.5, {}), (2, 0.4, {})])
        record.message("in between")
        record.sample(1, 0, "a cat", Image.new("RGB", (8, 8)))
        record.status("waiting", "for room")
        record.log("lost")
        texts = [event.get("text", "") for event in record.view()["events"]]
        assert sum("cannot be written (No space left on device)" in text for text in texts) == 1
        assert any("sample picture could not be written" in text for text in texts)
    record.losses([(3, 0.3, {})])
    record.status("done", "Done.")
    again = Record.open(record.folder)
    assert again.view() == record.view()
    assert again.state == "done"


def test_a_line_that_was_cut_off_is_left_out(record: Record) -> None:
    record.message("whole")
    with (record.folder / "events.jsonl").open("a") as file:
        file.write('{"id": 2, "kind": "mess')
    with (record.folder / "losses.jsonl").open("a") as file:
        file.write('[1, 0.5, {}]\n[2, "x", {}]\n[3]\n"row"\nnull\n[4, 0.25, {"a": "b"}]\n[5, 0.125, {}]\n[6, 0.')
    again = Record.open(record.folder)
    again.message("after")
    again.losses([(6, 0.1, {})])
    last = Record.open(record.folder).view()
    assert [event["text"] for event in last["events"]] == ["whole", "after"]
    assert [row[0] for row in last["losses"]["rows"]] == [1, 5, 6]


def test_a_folder_that_cannot_be_made_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AtelierError, match="Make the folder writable, or free some space"):
        Record.create(tmp_path / "file" / "run", {})


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder_is_told_before_training(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AtelierError, match="Make the folder writable"):
        Record.create(tmp_path / "run", {})
    tmp_path.chmod(0o700)


def test_a_newer_record_is_shown_and_never_written(record: Record) -> None:
    written(record)
    head = record.folder / "job.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "version": 2, "state": "dreaming"}))
    before = {path: path.read_bytes() for path in record.folder.rglob("*") if path.is_file()}
    newer = Record.open(record.folder)
    assert newer.newer
    assert (newer.state, newer.about["name"]) == ("dreaming", "cat")
    newer.status("done")
    newer.message("x")
    newer.losses([(9, 0.1, {})])
    newer.progress(1, 2, 1, 1, 0.1, 0.1, 1)
    newer.keep_progress()
    assert {path: path.read_bytes() for path in record.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("head", ["", "null", "[]", '"x"', '{"state": null, "progress": [], "about": 1, "message": 2}'])
def test_a_damaged_head_is_an_interrupted_run(record: Record, head: str) -> None:
    (record.folder / "job.json").write_text(head)
    again = Record.open(record.folder)
    assert again.state == "interrupted"
    assert (again.step, again.total, again.newer) == (0, 0, False)
    json.dumps(again.view())


def test_progress_is_on_the_disk_before_long(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    record.progress(1, 10, 1, 1, 0.5, 4.5, 10)
    record.progress(2, 10, 1, 1, 0.5, 4.0, 10)
    assert Record.open(record.folder).step == 1
    now[0] += 60
    record.progress(3, 10, 1, 1, 0.5, 3.5, 10)
    assert Record.open(record.folder).step == 3
    assert record.view()["progress"]["step"] == 3


def test_the_first_view_has_all_that_lasts_and_the_newest_messages(record: Record) -> None:
    record.saved(Path("a.safetensors"), 1, 1, "step")
    for number in range(EVENTS_SENT + 50):
        record.message(str(number))
    first = record.view()
    assert first["events"][0]["kind"] == "saved"
    assert len(first["events"]) == EVENTS_SENT + 1
    assert first["events"][-1]["text"] == str(EVENTS_SENT + 49)
    part = record.view(1)
    assert len(part["events"]) == EVENTS_SENT
    assert [event["text"] for event in record.view(part["last_event"])["events"]] == [
        str(number) for number in range(EVENTS_SENT, EVENTS_SENT + 50)
    ]


def test_a_record_that_rests_is_read_again(record: Record) -> None:
    written(record)
    before = record.view()
    record.rest()
    assert not record._events
    assert record.view() == before
    assert record.message("after")["id"] == before["last_event"] + 1


def test_a_record_that_a_full_disk_keeps_from_resting(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on the disk yet is not forgotten."""
    record.losses([(1, 0.5, {})])
    with monkeypatch.context() as patched:
        full(patched)
        record.message("in memory alone")
        record.rest()
        assert "in memory alone" in [event["text"] for event in record.view()["events"]]
    record.message("written")
    record.rest()
    assert not record._events
    assert [event["text"] for event in record.view()["events"]][0] == "in memory alone"


def test_a_record_begins_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Nothing of a run that was there before is written over."""
    written(Record.create(tmp_path / "run", {}, {"name": "first"}))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(AtelierError, match="cannot be recorded"):
        Record.create(tmp_path / "run", {"settings.toml": "x"}, {"name": "second"})
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_writers_and_readers_at_once(record: Record) -> None:
    start = threading.Barrier(5)

    def write(number: int) -> None:
        start.wait(PATIENCE)
        for index in range(40):
            record.message(f"{number} {index}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    start.wait(PATIENCE)
    seen: list[int] = []
    last = 0

    def read() -> bool:
        nonlocal last
        written = not any(thread.is_alive() for thread in threads)
        view = record.view(last) if last else record.view()
        seen.extend(event["id"] for event in view["events"])
        last = view["last_event"]
        return written

    until(read, "the writers' end", PATIENCE)
    assert seen == list(range(1, 161))
    assert [event["id"] for event in Record.open(record.folder).view()["events"]] == seen


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old", durable=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_rows_that_were_refused_come_later_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(tmp_path / "rows.jsonl")
    file.append([1])
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            file.append([2, 3])
    assert not file.complete
    file.append([4])
    assert file.complete
    assert read_lines(tmp_path / "rows.jsonl") == [1, 2, 3, 4]


def test_rows_that_wait_for_room_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stays full must not fill the memory: the oldest rows are given up."""
    monkeypatch.setattr(LineFile, "KEPT", 3)
    file = LineFile(tmp_path / "rows.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
        for number in range(5):
            with pytest.raises(OSError, match="full"):
                file.append([number])
    file.append([])
    assert file.complete and read_lines(tmp_path / "rows.jsonl") == [2, 3, 4]


def test_what_cannot_be_read_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert read_json(tmp_path / "deep", 1) == 1
    assert read_json(tmp_path / "bytes", 2) == 2
    assert read_json(tmp_path / "missing", 3) == 3
    assert read_lines(tmp_path / "missing") == []


def test_plain_values() -> None:
    value = {"a": (1, math.nan, {2.5}), 1: Path("b"), "\ud800": True, "none": None}
    assert plain(value) == {"a": [1, None, [2.5]], "1": "b", "?": True, "none": None}


# -- the curve -----------------------------------------------------------------------------------------------------


def test_the_smoothed_loss_is_a_mean() -> None:
    curve = LossCurve()
    for step in range(1, 9):
        curve.add(step, float(step), {})
    assert curve.rows[-1][2] == pytest.approx(4.5)
    flat = LossCurve()
    for step in range(1, 2001):
        flat.add(step, 0.5 + 0.1 * (-1) ** step, {})
    assert flat.rows[-1][2] == pytest.approx(0.5, abs=0.002)
    flat.add(2001, math.nan, {})
    assert flat.rows[-1] == (2001, None, flat.rows[-2][2])


def test_going_on_from_an_earlier_step_cuts_the_curve(record: Record) -> None:
    record.losses([(step, 1.0 / step, {}) for step in range(1, 8)])
    first = record.view()["losses"]
    record.losses([(6, 0.6, {}), (7, 0.7, {})])
    record.losses([(8, 0.8, {})])
    second = record.view(0, first["cursor"])["losses"]
    assert second["reset"]
    assert [row[0] for row in second["rows"]] == list(range(1, 9))
    assert [row[1] for row in second["rows"]][5:] == [0.6, 0.7, 0.8]
    assert Record.open(record.folder).view()["losses"]["rows"] == second["rows"]
    record.losses([(9, 0.9, {})])
    third = record.view(0, second["cursor"])["losses"]
    assert (third["reset"], [row[0] for row in third["rows"]]) == (False, [9])


@pytest.mark.parametrize("cursor", ["", "x", "0:", ":", "0:-1", "0:99999", "1:3", "0:٣", "0:" + "9" * 9000])
def test_a_cursor_that_is_none_begins_anew(record: Record, cursor: str) -> None:
    record.losses([(step, 0.5, {}) for step in range(1, 6)])
    news = record.view(0, cursor)["losses"]
    assert news["reset"]
    assert len(news["rows"]) == 5


def test_a_long_curve_is_thinned_to_the_same_shape() -> None:
    rows = [(step, 1.0 / step, 2.0 / step) for step in range(1, 100_001)]
    thin = thinned(rows)
    assert len(thin) == SHOWN
    assert thin[-1][0] == 100_000
    assert [row[0] for row in thin] == sorted({row[0] for row in thin})
    assert sum(row[1] or 0 for row in thin) / SHOWN == pytest.approx(sum(row[1] for row in rows) / len(rows), rel=0.05)
    assert thinned(rows[:SHOWN]) == rows[:SHOWN]
