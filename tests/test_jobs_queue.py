"""The queue: one run after another in one thread, each with a record that says how it ended."""

from __future__ import annotations

import ctypes
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from jobs_fakes import PATIENCE, FakeHost, Steered, ended_by, finished, job_named, keep_state, model, write_lora

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.jobs.control import Control
from atelier.jobs.lock import FolderLock
from atelier.jobs.queue import Jobs, current
from atelier.jobs.record import Record

# A test kills the worker on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def train() -> Steered:
    return Steered()


def test_a_run_from_train_to_done(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("cat"))
    train.until("began cat")
    assert jobs.running is job
    train.finish()
    finished(jobs, job)
    assert job.state == "done"
    assert jobs.running is None
    assert (job.record.step, job.record.total) == (10, 10)
    assert (job.record.folder / "settings.toml").read_text().count("cat") == 1
    assert "pictures" in (job.record.folder / "dataset.toml").read_text()
    assert job.summary()["actions"] == []


def test_runs_go_one_after_another_in_one_thread(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    waiting = [jobs.submit(job_named(name)) for name in ("a", "b", "c")]
    train.until("began a")
    assert jobs.queued == [waiting[1].id, waiting[2].id]
    assert waiting[1].state == "queued"
    train.finish()
    finished(jobs, *waiting)
    assert train.names == ["a", "b", "c"]
    assert len(set(train.threads)) == 1


def test_two_submits_at_once(host: FakeHost, train: Steered) -> None:
    """Of many submits of the same name at once, one is taken; of different names, all."""
    jobs = Jobs(host, train)
    start, taken, refused = threading.Barrier(8), [], []

    def submit(number: int) -> None:
        start.wait(PATIENCE)
        try:
            taken.append(jobs.submit(job_named("same" if number % 2 else f"own{number}")))
        except AtelierError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(job.name for job in taken) == ["own0", "own2", "own4", "own6", "same"]
    assert all("same-2" in text for text in refused)
    assert len(refused) == 3
    train.finish()
    finished(jobs, *taken)
    assert len({job.id for job in taken}) == 5


def test_a_taken_name_is_refused_with_a_free_one(host: FakeHost, train: Steered) -> None:
    (host.folders.lora / "cat.safetensors").write_bytes(b"kept")
    jobs = Jobs(host, train)
    with pytest.raises(AtelierError, match="cat-2"):
        jobs.submit(job_named("cat"))
    assert jobs.jobs() == []
    assert (host.folders.lora / "cat.safetensors").read_bytes() == b"kept"


@pytest.mark.parametrize("name", ["", "../cat", "a/b", "con", "C:\\x", "."])
def test_a_name_that_is_no_name_is_refused(host: FakeHost, train: Steered, name: str) -> None:
    with pytest.raises(AtelierError, match="output_name"):
        Jobs(host, train).submit(job_named(name))


def test_a_folder_that_cannot_be_written(host: FakeHost, train: Steered) -> None:
    host.folders.runs.rmdir()
    host.folders.runs.write_text("a file where the folder should be")
    jobs = Jobs(host, train)
    with pytest.raises(AtelierError, match="Make the folder writable"):
        jobs.submit(job_named("cat"))
    assert train.names == []


# -- requests ------------------------------------------------------------------------------------------------------


def test_stop_while_it_trains(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job, after = jobs.submit(job_named("cat")), jobs.submit(job_named("dog"))
    train.step(2)
    train.until("step 2")
    jobs.stop(job.id)
    finished(jobs, job)
    assert (job.state, job.record.step) == ("stopped", 2)
    train.finish()
    finished(jobs, after)
    assert after.state == "done"


def test_stop_in_the_queue(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    first, second, third = (jobs.submit(job_named(name)) for name in ("a", "b", "c"))
    train.until("began a")
    jobs.stop(second.id)
    assert second.state == "stopped"
    assert jobs.queued == [third.id]
    train.finish()
    finished(jobs, first, second, third)
    assert train.names == ["a", "c"]


def test_stop_while_paused_and_after_the_end(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("cat"))
    train.until("running")
    jobs.pause(job.id)
    train.until("paused")
    jobs.stop(job.id)
    finished(jobs, job)
    assert job.state == "stopped"
    jobs.stop(job.id)
    assert job.state == "stopped"


@pytest.mark.parametrize("stage", ["preparing", "running"])
def test_stop_that_the_trainer_heeds_by_returning(host: FakeHost, stage: str) -> None:
    """A stage that just returns on a stop leaves a record that ends all the same."""
    reached = threading.Event()

    def train(config: JobConfig, host: Any, record: Record, control: Control) -> None:
        record.status(stage)
        reached.set()
        while not control.stopping:
            control.wait_for_request(PATIENCE)

    jobs = Jobs(host, train)
    job = jobs.submit(job_named("cat"))
    assert reached.wait(PATIENCE)
    jobs.stop(job.id)
    finished(jobs, job)
    assert job.state == "stopped"


def test_pause_and_resume(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("cat"))
    train.step(3)
    train.until("step 3")
    jobs.pause(job.id)
    assert job.summary()["asked"] in ("pause", "")
    train.until("paused")
    assert job.actions == ["stop", "resume"]
    jobs.resume(job.id)
    train.finish()
    finished(jobs, job)
    assert (job.state, job.record.step) == ("done", 10)


def test_save_and_sample_reach_the_trainer(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job = jobs.submit(job_named("cat"))
    train.until("running")
    jobs.save_now(job.id)
    jobs.sample_now(job.id)
    train.until("saved")
    train.until("sampled")
    train.finish()
    finished(jobs, job)
    assert train.taken == ["save", "sample"]
    assert [kind for *_, kind in job.record.saved_files()] == ["asked", "final"]


def test_what_makes_no_sense_is_refused_in_words(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job, waiting = jobs.submit(job_named("cat")), jobs.submit(job_named("dog"))
    train.until("running")
    for ask in (jobs.pause, jobs.save_now, jobs.sample_now):
        with pytest.raises(AtelierError, match="dog cannot"):
            ask(waiting.id)
    train.finish()
    finished(jobs, job, waiting)
    for ask in (jobs.pause, jobs.save_now, jobs.sample_now, jobs.resume):
        with pytest.raises(AtelierError, match="cat cannot"):
            ask(job.id)
    with pytest.raises(AtelierError, match="no run"):
        jobs.stop("nothing")


# -- ends ----------------------------------------------------------------------------------------------------------


def test_an_error_is_a_sentence_and_a_traceback_in_the_log(host: FakeHost) -> None:
    def fails() -> None:
        raise ValueError("a bad <b>value</b>")

    jobs = Jobs(host, ended_by(fails))
    job = jobs.submit(job_named("cat"))
    finished(jobs, job)
    assert job.state == "failed"
    assert "ValueError: a bad <b>value</b>." in job.record.state_message
    assert "Traceback" not in job.record.state_message
    assert "Traceback" in (job.record.folder / "log.txt").read_text()
    # The name is free again: nothing was saved.
    again = jobs.submit(job_named("cat"))
    finished(jobs, again)
    assert again.id != job.id


def test_an_error_for_the_person_stays_as_it_is(host: FakeHost) -> None:
    def fails() -> None:
        raise AtelierError("There are no pictures in it.")

    jobs = Jobs(host, ended_by(fails))
    job = jobs.submit(job_named("cat"))
    finished(jobs, job)
    assert (job.state, job.record.state_message) == ("failed", "There are no pictures in it.")


def kill(thread: threading.Thread) -> None:
    """Raises SystemExit in a thread, from outside."""
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)) == 1


def test_a_killed_worker_leaves_a_record_and_the_queue_goes_on(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job, after = jobs.submit(job_named("cat")), jobs.submit(job_named("dog"))
    train.step(4)
    train.until("step 4")
    keep_state(job.record, 4)
    kill(train.threads[0])
    train.threads[0].join(PATIENCE)
    assert not train.threads[0].is_alive()
    assert job.state == "interrupted"
    assert "ended from outside" in job.record.state_message
    assert "step 4" in job.record.state_message
    assert "SystemExit" in (job.record.folder / "log.txt").read_text()
    last = jobs.submit(job_named("bird"))
    train.finish()
    finished(jobs, after, last)
    assert train.names == ["cat", "dog", "bird"]
    assert train.threads[1] is not train.threads[0]
    jobs.resume(job.id)
    finished(jobs, job)
    assert job.state == "done"


def test_looking_is_enough_to_start_a_new_worker(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    job, after = jobs.submit(job_named("cat")), jobs.submit(job_named("dog"))
    train.until("began cat")
    kill(train.threads[0])
    train.threads[0].join(PATIENCE)
    assert [one.id for one in jobs.jobs()] == [job.id, after.id]
    train.until("began dog")
    train.finish()
    finished(jobs, after)


def test_threads_and_handles_do_not_grow_with_runs(host: FakeHost) -> None:
    jobs = Jobs(host, ended_by(lambda: None))
    first = jobs.submit(job_named("first"))
    finished(jobs, first)
    threads, handles = threading.active_count(), open_files()
    for number in range(50):
        finished(jobs, jobs.submit(job_named(f"run{number}")))
    assert threading.active_count() <= threads
    assert open_files() <= handles
    assert sum(len(job.record._events) for job in jobs.jobs()) < 20


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


# -- the model -----------------------------------------------------------------------------------------------------


def test_a_run_waits_for_the_model_it_was_asked_for(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    first, second = jobs.submit(job_named("a")), jobs.submit(job_named("b"))
    train.until("began a")
    host.model = model("another")
    train.finish()
    finished(jobs, first)
    until(lambda: "the model base: load it" in second.record.state_message)
    assert (second.state, jobs.queued) == ("queued", [second.id])
    host.model = None
    assert train.names == ["a"]
    host.model = model()
    finished(jobs, second)
    assert second.state == "done"


def test_stop_while_it_waits_for_the_model(host: FakeHost, train: Steered) -> None:
    jobs = Jobs(host, train)
    first, second = jobs.submit(job_named("a")), jobs.submit(job_named("b"))
    train.until("began a")
    host.model = None
    train.finish()
    finished(jobs, first)
    until(lambda: second.record.state_message)
    jobs.stop(second.id)
    finished(jobs, second)
    assert second.state == "stopped"
    assert train.names == ["a"]


def until(true: Any) -> None:
    """Waits for something that no event tells of."""
    waiting = threading.Event()
    for _ in range(int(PATIENCE * 200)):
        if true():
            return
        waiting.wait(0.005)
    raise AssertionError("it never happened")


# -- restarts ------------------------------------------------------------------------------------------------------


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
        "The WebUI ended while this was training; press Resume to go on from step 3."
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
    assert "before anything was kept" in later.get(job.id).record.state_message
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
    with pytest.raises(AtelierError, match="ending"):
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
    with pytest.raises(AtelierError, match="another run has that name"):
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
