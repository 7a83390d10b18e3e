"""The queue: one run after another in one thread, each with a record that says how it ended."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

import pytest

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.jobs.control import Control
from atelier.jobs.queue import Jobs
from atelier.jobs.record import Record
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, ended_by, finished, job_named, keep_state, model

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
    assert "The training thread was killed" in job.record.state_message
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
    until(lambda: "Waiting for the model base. Load it" in second.record.state_message)
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
