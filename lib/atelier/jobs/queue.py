"""The queue of runs and the one worker thread that trains them, inside the host's process.

Everything about a run is in its record folder; the queue is the runs that are in state "queued", oldest first. So it
survives a restart of the host. A run that was going when the host ended is "interrupted" then, and can be resumed.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig, job_from_dict, job_to_dict
from atelier.config.names import check_output_name, free_name
from atelier.config.toml_out import dataset_toml, training_toml
from atelier.hosts.contract import Host
from atelier.jobs.control import Control
from atelier.jobs.record import ENDED, Record, read_json

Train = Callable[[JobConfig, Host, Record, Control], object]


@dataclass
class Job:
    """One run: what was asked, how to reach it, and its record."""

    id: str
    config: JobConfig
    record: Record
    control: Control = field(default_factory=Control)

    @property
    def state(self) -> str:
        return self.record.state

    def summary(self) -> dict[str, Any]:
        """What a list shows of it."""
        step = self.record.step
        return {
            "id": self.id,
            "name": self.config.name,
            "trigger": self.config.trigger,
            "state": self.state,
            "message": self.record.state_message,
            "step": step,
            "total": self.record.since()["progress"].get("total"),
            "resumable": self.resumable,
        }

    @property
    def resumable(self) -> bool:
        """True when it ended early and left a state to go on from."""
        states = self.record.folder / "state"
        early = self.state in ("interrupted", "stopped", "failed")
        return early and not self.record.newer and any(states.glob("*.safetensors"))


class Jobs:
    """The runs of one host. `train` does the work; it is handed in so that this module needs no torch."""

    def __init__(self, host: Host, train: Train) -> None:
        self._host = host
        self._train = train
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._worker: threading.Thread | None = None
        self._running: Job | None = None
        self._closing = False
        self._load()

    # -- asking ---------------------------------------------------------------------------------------------------

    def submit(self, config: JobConfig) -> Job:
        """Puts a run at the end of the queue. Raises `AtelierError` for a name that cannot be used or is taken."""
        name = check_output_name(config.name)
        with self._changed:
            taken = [job.config.name for job in self._jobs.values() if job.state not in ENDED]
            free = free_name(self._host.folders.lora, name, taken)
            if free != name:
                raise AtelierError(
                    f"There is a {name} already, which is kept as it is. Use another name, such as {free}."
                )
            job = self._create(config)
            self._jobs[job.id] = job
            self._wake()
        return job

    def jobs(self) -> list[Job]:
        """Every run, oldest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda job: job.id)

    def get(self, job_id: str) -> Job:
        """The run of that id. Raises `AtelierError` when there is none."""
        with self._changed:
            if job_id not in self._jobs:
                raise AtelierError(f"There is no run {job_id!r}.")
            return self._jobs[job_id]

    @property
    def running(self) -> Job | None:
        """The run that the worker is at, None when it is idle."""
        with self._changed:
            return self._running

    def stop(self, job_id: str) -> None:
        """Ends a run after its step, or takes it out of the queue."""
        job = self.get(job_id)
        with self._changed:
            job.control.stop()
            if job.state == "queued":
                job.record.status("stopped", "Taken out of the queue.")
                self._changed.notify_all()

    def pause(self, job_id: str) -> None:
        self._running_job(job_id).control.pause()

    def resume(self, job_id: str) -> None:
        """Goes on with a paused run, or queues one that was interrupted, stopped or failed again.

        Raises `AtelierError` when it has nothing to go on from.
        """
        job = self.get(job_id)
        with self._changed:
            if job.state not in ENDED:
                job.control.resume()
                return
            if not job.resumable:
                raise AtelierError(f"{job.config.name} cannot be resumed: it is done, or left no state to go on from.")
            job.control = Control()
            job.record.status("queued", "Waiting to go on.")
            self._wake()

    def save_now(self, job_id: str) -> None:
        self._running_job(job_id).control.save_now()

    def sample_now(self, job_id: str) -> None:
        self._running_job(job_id).control.sample_now()

    def wait(self, job: Job, timeout: float | None = None) -> bool:
        """Waits until the run has ended. False when `timeout` seconds passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: job.state in ENDED and self._running is not job, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Stops taking runs and ends the running one after its step; it is then "interrupted", not "stopped"."""
        with self._changed:
            self._closing = True
            worker, running = self._worker, self._running
            self._changed.notify_all()
        if running is not None:
            running.control.stop()
        if worker is not None and worker is not threading.current_thread():
            worker.join(timeout)

    # -- the worker -----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Starts the worker if there is none alive. Called with the lock held."""
        self._changed.notify_all()
        if self._worker is None or not self._worker.is_alive():
            if self._running is not None:
                self._mark_killed(self._running)
                self._running = None
            self._worker = threading.Thread(target=self._work, name="atelier-worker", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                job = None
                while job is None:
                    if self._closing:
                        return
                    job = next((job for job in sorted(self._jobs.values(), key=_age) if job.state == "queued"), None)
                    if job is None:
                        self._changed.wait()
                self._running = job
            try:
                self._run(job)
            finally:
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _run(self, job: Job) -> None:
        record = job.record
        try:
            self._train(job.config, self._host, record, job.control)
        except AtelierError as error:
            record.log_exception(error)
            record.status("failed", str(error))
        except Exception as error:  # noqa: BLE001 - whatever went wrong belongs to this run, and the next one goes on
            record.log_exception(error)
            record.status(
                "failed", f"{type(error).__name__}: {error}. The traceback is in {record.folder / 'log.txt'}."
            )
        except BaseException as error:
            record.log_exception(error)
            self._mark_killed(job)
            raise
        if self._closing and record.state == "stopped":
            record.status("interrupted", _INTERRUPTED)
        record.keep_progress()

    def _mark_killed(self, job: Job) -> None:
        if job.state not in ENDED:
            job.record.status("interrupted", "The thread that trained was ended from outside. Press Resume to go on.")

    def _running_job(self, job_id: str) -> Job:
        job = self.get(job_id)
        if job.state in ENDED or job.state == "queued":
            raise AtelierError(f"{job.config.name} is not running.")
        return job

    # -- records --------------------------------------------------------------------------------------------------

    def _create(self, config: JobConfig) -> Job:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        slug = re.sub(r"[^A-Za-z0-9_-]+", "_", config.name)[:40]
        runs = self._host.folders.runs
        number = 1
        while (runs / (job_id := f"{stamp}-{number:02d}-{slug}")).exists():
            number += 1
        files = {
            "request.json": json.dumps(job_to_dict(config)),
            "settings.toml": training_toml(config),
            "dataset.toml": dataset_toml(config),
        }
        return Job(job_id, config, Record.create(runs / job_id, files))

    def _load(self) -> None:
        """Finds the runs of earlier processes."""
        runs = self._host.folders.runs
        for folder in sorted(runs.iterdir()) if runs.is_dir() else []:
            request = read_json(folder / "request.json", None)
            if request is None:
                continue
            try:
                config = job_from_dict(request)
            except AtelierError:
                continue
            job = Job(folder.name, config, Record.open(folder))
            if job.state not in ENDED and job.state != "queued" and not job.record.newer:
                job.record.status("interrupted", _INTERRUPTED)
            self._jobs[job.id] = job
        with self._changed:
            if any(job.state == "queued" for job in self._jobs.values()):
                self._wake()


_INTERRUPTED = "The WebUI ended while this was training. Press Resume to go on from where it was."
_CURRENT: dict[str, Jobs] = {}
"""The one piece of global state: a WebUI that reloads its page runs our script again, and must find its runs."""


def current(host: Host, train: Train) -> Jobs:
    """The runs of this process's host, the same object however often the page is built."""
    if host.name not in _CURRENT:
        _CURRENT[host.name] = Jobs(host, train)
    return _CURRENT[host.name]


def _age(job: Job) -> str:
    return job.id
