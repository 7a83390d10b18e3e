"""What goes on is told from the press of a button to the next state, and Stop can be pressed again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from atelier.config.job import JobConfig
from atelier.jobs.control import Control
from atelier.jobs.job import Job
from atelier.jobs.queue import Jobs
from atelier.jobs.record import Record
from tests.support.jobs_fakes import PATIENCE, FakeHost, finished, job_named


class Drawing:
    """A trainer that stands where a test wants it: in a step, or drawing the last samples."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.hurried = False

    def __call__(self, job: JobConfig, host: Any, record: Record, control: Control) -> None:
        record.status("running")
        self.wait()
        control.take_sample()
        record.activity("Drawing the sample of step 3", 2, 20)
        self.wait()
        self.hurried = control.hurried
        record.status("stopped", "Stopped.")

    def wait(self) -> None:
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        self.go_on.clear()

    def until_it_stands(self) -> None:
        assert self.reached.wait(PATIENCE)
        self.reached.clear()


def begun(tmp_path: Path) -> tuple[Drawing, Jobs, Job]:
    jobs = Jobs(FakeHost(tmp_path), trainer := Drawing())
    job = jobs.submit(job_named("cat"))
    trainer.until_it_stands()
    return trainer, jobs, job


def test_a_sample_that_was_asked_for_is_told_until_it_is_drawn(tmp_path: Path) -> None:
    trainer, jobs, job = begun(tmp_path)
    assert (job.summary()["activity"], job.summary()["asked"]) == (None, "")
    jobs.sample_now(job.id)
    told = job.summary()
    assert told["asked"] == "sample"
    assert told["activity"] == {"text": "The samples are drawn after this step.", "done": None, "total": None}
    trainer.go_on.set()
    trainer.until_it_stands()
    told = job.summary()
    assert told["asked"] == ""
    assert told["activity"] == {"text": "Drawing the sample of step 3", "done": 2, "total": 20}
    trainer.go_on.set()
    finished(jobs, job)
    assert job.summary()["activity"] is None
    jobs.close(PATIENCE)


def test_stop_is_pressed_again_only_while_samples_are_drawn(tmp_path: Path) -> None:
    trainer, jobs, job = begun(tmp_path)
    jobs.stop(job.id)
    jobs.stop(job.id)  # twice by accident: the samples shall be drawn all the same
    assert (job.actions, job.control.hurried) == ([], False)
    trainer.go_on.set()
    trainer.until_it_stands()
    assert job.actions == ["stop"]
    jobs.stop(job.id)
    assert job.actions == []
    trainer.go_on.set()
    finished(jobs, job)
    assert trainer.hurried
    jobs.close(PATIENCE)


def test_the_end_of_the_webui_waits_for_no_samples(tmp_path: Path) -> None:
    trainer, jobs, job = begun(tmp_path)
    jobs.stop(job.id)
    trainer.go_on.set()
    trainer.until_it_stands()
    jobs.close(0)
    assert job.control.hurried
    trainer.go_on.set()
    finished(jobs, job)
    assert job.state == "stopped", "the person had stopped it"


def test_sizes_are_those_of_the_folder(tmp_path: Path) -> None:
    trainer, jobs, job = begun(tmp_path)
    trainer.go_on.set()
    trainer.until_it_stands()
    (job.record.folder / "state").mkdir()
    (job.record.folder / "state" / "x").write_bytes(b"x" * 10_000)
    job.forget_size()
    assert job.size > 10_000
    (job.record.folder / "state" / "x").unlink()
    assert job.size > 10_000, "an open run is looked at now and then"
    trainer.go_on.set()
    finished(jobs, job)
    assert 0 < job.size < 10_000, "and once when it has ended"
    jobs.close(PATIENCE)
