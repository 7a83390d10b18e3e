"""The queue over restarts: what was queued goes on, what ran can be resumed, another process is left alone."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from atelier.config.errors import AtelierError
from atelier.jobs.current import current
from atelier.jobs.lock import FolderLock
from atelier.jobs.queue import Jobs
from atelier.jobs.record import Record
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, finished, job_named, keep_state, model, write_lora

# A test kills the worker on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def train() -> Steered:
    return Steered()


def until(true: Any) -> None:
    """Waits for something that no event tells of."""
    waiting = threading.Event()
    for _ in range(int(PATIENCE * 200)):
        if true():
            return
        waiting.wait(0.005)
    raise AssertionError("it never happened")


def test_a_restart_keeps_the_queue_and_marks_what_ran(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    ran, b, c, d = (jobs.submit(job_named(name)) for name in ("a", "b", "c", "d"))
    train.step(3)
    train.until("step 3")
    keep_state(ran.record, 2)
    keep_state(ran.record, 3)
    order = json.loads((host.folders.runs / "queue.json").read_text())
    assert order["order"] == [b.id, c.id, d.id]
    # The order on the disk is what counts.
    order["order"] = [d.id, b.id, "gone"]
    (host.folders.runs / "queue.json").write_text(json.dumps(order))
    dead = copy_of(host)
    again = Steered()
    later = Jobs(dead, again)
    assert later.get(ran.id).state == "interrupted"
    assert later.get(ran.id).record.state_message == (
        "The WebUI ended during this run. Press Resume to go on from step 3."
    )
    again.until("began d")
    assert later.queued == [b.id, c.id]
    later.resume(ran.id)
    assert later.queued == [b.id, c.id, ran.id]
    again.finish()
    finished(later, *(later.get(job.id) for job in (b, c, d, ran)))
    assert again.names == ["d", "b", "c", "a"]
    assert later.submit(job_named("e")).id > max(ran.id, d.id)
    train.finish()
    finished(jobs, d)


def copy_of(host: FakeHost) -> FakeHost:
    """The folders as a process that is killed now leaves them."""
    import shutil

    root = host.folders.runs.parent
    shutil.copytree(root, root / "later", ignore=shutil.ignore_patterns("later", ".lock", "*.tmp"))
    return FakeHost(root / "later")


def test_a_run_without_a_state_cannot_be_resumed(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("a"))
    train.until("began a")
    later = Jobs(copy_of(host), Steered())
    assert "before a state of this run was saved" in later.get(job.id).record.state_message
    assert later.get(job.id).actions == []
    with pytest.raises(AtelierError, match="cannot be resumed"):
        later.resume(job.id)
    train.finish()
    finished(jobs, job)


def test_after_a_restart_the_queue_waits_for_the_model(host: FakeHost, train: Steered) -> None:
    """A WebUI starts its scripts before it has loaded its model."""
    jobs = Jobs(host, train)
    jobs.submit(job_named("a"))
    job = jobs.submit(job_named("b"))
    train.until("began a")
    dead = copy_of(host)
    dead.model = None
    again = Steered()
    later = Jobs(dead, again)
    until(lambda: later.get(job.id).record.state_message)
    later.close(PATIENCE)
    assert later.get(job.id).state == "queued"
    later = Jobs(dead, again)
    until(lambda: later.get(job.id).record.state_message)
    dead.model = model()
    again.finish()
    finished(later, later.get(job.id))
    assert later.get(job.id).state == "done"
    train.finish()
    finished(jobs, job)


def test_shutdown_ends_the_run_so_that_it_can_be_resumed(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job, waiting = jobs.submit(job_named("a")), jobs.submit(job_named("b"))
    train.step(2)
    train.until("step 2")
    keep_state(job.record, 2)
    jobs.close(PATIENCE)
    assert job.state == "interrupted"
    assert "go on from step 2" in job.record.state_message
    assert waiting.state == "queued"
    with pytest.raises(AtelierError, match="shutting down"):
        jobs.submit(job_named("c"))
    again = Steered()
    later = Jobs(host, again)
    assert later.get(job.id).actions == ["resume"]
    again.finish()
    finished(later, later.get(waiting.id))


def test_a_run_of_another_process_is_left_alone(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("a"))
    train.until("running")
    other = Jobs(host, Steered())
    assert other.get(job.id).state == "running"
    assert other.get(job.id).actions == []
    with pytest.raises(AtelierError, match="another WebUI"):
        other.stop(job.id)
    train.finish()
    finished(jobs, job)
    assert Record.open(job.record.folder).state == "done"


def test_a_queued_run_is_trained_by_one_of_two_processes(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    first, second = jobs.submit(job_named("a")), jobs.submit(job_named("b"))
    train.until("began a")
    again = Steered()
    other = Jobs(host, again)
    again.until("began b")
    train.finish()
    finished(jobs, first)
    until(lambda: jobs.get(second.id).elsewhere)
    last = jobs.submit(job_named("c"))
    finished(jobs, last)
    again.finish()
    finished(other, other.get(second.id))
    assert (train.names, again.names) == (["a", "c"], ["b"])


def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    assert FolderLock(tmp_path / "missing").acquire()


def test_damaged_files_do_not_stop_the_start(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("a"))
    train.finish()
    finished(jobs, job)
    runs = host.folders.runs
    (runs / "queue.json").write_text("{")
    for name, content in {"x": "[1", "y": "[]", "z": '{"state": 3, "about": 4, "progress": 5, "version": "q"}'}.items():
        (runs / name).mkdir()
        (runs / name / "job.json").write_text(content)
    (runs / "uploads").mkdir()
    later = Jobs(host, train)
    assert {one.id for one in later.jobs()} == {job.id, "x", "y", "z"}
    for one in later.jobs():
        assert json.loads(json.dumps(one.summary()))["id"] == one.id
    with pytest.raises(AtelierError):
        later.resume("x")


def test_a_run_of_a_newer_version_is_shown_and_left_alone(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("a"))
    train.finish()
    finished(jobs, job)
    head = job.record.folder / "job.json"
    written = {**json.loads(head.read_text()), "version": 99, "state": "running"}
    head.write_text(json.dumps(written))
    keep_state(job.record, 5)
    later = Jobs(host, train)
    found = later.get(job.id)
    assert (found.state, found.summary()["newer"], found.actions) == ("running", True, [])
    for ask in (later.stop, later.pause, later.resume):
        with pytest.raises(AtelierError, match="newer version"):
            ask(job.id)
    assert json.loads(head.read_text()) == written


def test_a_name_that_was_taken_since_is_not_overwritten_by_a_resume(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("a"))
    train.until("running")
    keep_state(job.record, 0)
    jobs.stop(job.id)
    finished(jobs, job)
    assert job.resumable
    (host.folders.lora / "a.safetensors").write_bytes(b"of another")
    with pytest.raises(AtelierError, match="another run has this name"):
        jobs.resume(job.id)
    (host.folders.lora / "a.safetensors").unlink()
    write_lora(host, job.record, "a", 3)
    jobs.resume(job.id)
    train.finish()
    finished(jobs, job)
    assert job.state == "done"


def test_a_page_that_is_built_again_finds_the_same_runs(host: FakeHost, train: Steered) -> None:
    host.name = "a host of this test only"
    jobs = current(host, train)
    assert current(FakeHost(host.folders.runs), None) is not jobs
    again = FakeHost(host.folders.runs)
    again.name = host.name
    assert current(again) is jobs
