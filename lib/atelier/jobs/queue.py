"""The queue of runs and the one worker thread that trains them, inside the WebUI's process.

Each run has a record folder; queue.json beside them has the order. So the queue survives a restart: queued runs are
trained, and a run that was training is "interrupted" and can be resumed.
"""

from __future__ import annotations

import secrets
import threading
from functools import partial
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.config.names import check_output_name, free_name
from atelier.hosts.contract import Host
from atelier.jobs.carry_out import Train, carry_out, tell_killed
from atelier.jobs.control import Control
from atelier.jobs.found import found_jobs, new_id
from atelier.jobs.housekeeping import ignore_in_git, tidy
from atelier.jobs.job import Job, new_job, picture_folders
from atelier.jobs.lock import FolderLock
from atelier.jobs.order import Order
from atelier.jobs.record import Record
from atelier.jobs.storage import clear_cache, remove_folder
from atelier.jobs.trim import trim

ELSEWHERE = "{} is being trained by another WebUI with the same folder. Use its page."


class Jobs:
    """The runs of one host. `train` does the training; by default it is `training.run.train`."""

    def __init__(self, host: Host, train: Train | None = None) -> None:
        self.host = host
        self._train = train or _trainer
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[str, Job] = {}
        self._order = Order(host.folders.runs)
        self._worker: threading.Thread | None = None
        self._running: Job | None = None
        self._closing = False
        self.page_key = secrets.token_urlsafe(18)
        """A key in the pages of this process. Every pressed button sends it; see `ui.own_page`."""
        self.for_page: dict[str, Any] = {}
        """Objects of the page, by name, that live as long as the queue."""
        self._interrupt: Job | None = None
        """The run that is stopped because the WebUI ends, not by the person."""
        with self._changed:
            self._jobs = found_jobs(host.folders.runs)
            self._order.load([job.id for job in self._jobs.values() if job.state == "queued" and not job.record.newer])
            ignore_in_git(host.folders.runs, host.folders.cache)
            if self._order.ids:
                self._wake()

    # -- asking ----------------------------------------------------------------------------------------------------

    def submit(self, config: JobConfig) -> Job:
        """Puts a run at the end of the queue.

        Raises `AtelierError` for a name that cannot be used or is taken, and when the run cannot be recorded.
        """
        name = check_output_name(config.name)
        base = self.host.loaded_model()
        with self._changed:
            if self._closing:
                raise AtelierError("The WebUI is shutting down, so no new run can be started.")
            free = self.free_name(name)
            if free != name:
                raise AtelierError(
                    f"There is a {name} already, and saved files are not overwritten. Use another name, such as {free}."
                )
            job = new_job(new_id(name, self.host.folders.runs, self._jobs), config, base, self.host.folders.runs)
            self._jobs[job.id] = job
            ignore_in_git(self.host.folders.runs, self.host.folders.cache)
            self._enqueue(job)
        return job

    def free_name(self, name: str) -> str:
        """`name`, or NAME-2 …: the first name that neither a saved file nor a queued run has."""
        with self._changed:
            taken = [job.name for job in self._jobs.values() if job.is_open and not job.record.newer]
            return free_name(self.host.folders.lora, name, taken)

    def jobs(self) -> list[Job]:
        """Every run, oldest first."""
        with self._changed:
            self._check_worker()
            return list(self._jobs.values())

    def get(self, job_id: str) -> Job:
        """The run with this id. Raises `AtelierError` when there is none."""
        with self._changed:
            self._check_worker()
            if job_id not in self._jobs:
                raise AtelierError(f"There is no run {job_id!r}.")
            return self._jobs[job_id]

    @property
    def running(self) -> Job | None:
        """The run that is training; None when the worker is idle."""
        with self._changed:
            self._check_worker()
            return self._running

    @property
    def queued(self) -> list[str]:
        """Ids of the runs that wait, the next one first."""
        with self._changed:
            return list(self._order.ids)

    def stop(self, job_id: str) -> None:
        """Ends a run after its current step, or removes it from the queue. Does nothing to a run that has ended."""
        with self._changed:
            job = self._ours(job_id)
            if job.state == "queued" and job is not self._running:
                self._dequeue(job)
                job.record.status("stopped", "Removed from the queue.")
            elif job.is_open:  # again, while the last samples are drawn: without them
                job.control.stop(at_once=job.control.stopping and job.record.doing is not None)
            self._changed.notify_all()

    def pause(self, job_id: str) -> None:
        """Asks a run to free the device and wait. Raises `AtelierError` when it is not running."""
        self._going(job_id).control.pause()

    def resume(self, job_id: str) -> None:
        """Resumes a paused run, or queues a run again that was interrupted, stopped or failed.

        Raises `AtelierError` when it left no state, or when another run has taken its name since.
        """
        with self._changed:
            job = self._ours(job_id)
            if job.is_open:
                job.control.resume()
                return
            if not job.resumable:
                raise AtelierError(f"{job.name} cannot be resumed: it is done, or it ended before a state was saved.")
            self._check_still_free(job)
            _ = job.config
            job.control = Control()
            job.record.status("queued", f"Waiting to go on from step {job.kept_step}.")
            self._enqueue(job)

    def delete(self, job_id: str) -> int:
        """Deletes the record of a run that has ended; the files that it saved stay. Returns the bytes that became free.

        Raises `AtelierError` for a run that has not ended, and when its folder cannot be removed.
        """
        with self._changed:
            job = self._ours(job_id)
            if job.is_open or self._running is job:
                raise AtelierError(f"{job.name} has not ended. Stop it first, then delete it.")
            with job.alone() as alone:
                if not alone:
                    raise AtelierError(ELSEWHERE.format(job.name))
            job.forget_size()
            freed = job.size
            remove_folder(job.record.folder)
            del self._jobs[job_id]
            return freed

    def clear_cache(self, name: str) -> int:
        """Empties one of `storage.CACHES`, and returns the bytes that became free. Raises `AtelierError` while a run
        trains.
        """
        with self._changed:
            if self._running is not None:
                raise AtelierError(f"{self._running.name} is using it. Clear it when no run trains.")
            return clear_cache(self.host.folders.cache, name)

    def save_now(self, job_id: str) -> None:
        """Asks a run to save its LoRA as it is now. Raises `AtelierError` when it is not running."""
        self._going(job_id, "save").control.save_now()

    def sample_now(self, job_id: str) -> None:
        """Asks a run to draw its sample pictures. Raises `AtelierError` when it is not running."""
        self._going(job_id, "sample").control.sample_now()

    def wait(self, job: Job, timeout: float | None = None) -> bool:
        """Waits until the run has ended and the worker has left it. False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not job.is_open and self._running is not job, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Takes no more runs, and ends the running one after its step to be resumed: for the end of the WebUI."""
        with self._changed:
            self._closing = True
            worker, running = self._worker, self._running
            if running is not None:
                if not running.control.stopping:
                    self._interrupt = running
                running.control.stop(at_once=True)
            self._changed.notify_all()
        if worker is not None and worker is not threading.current_thread():
            worker.join(timeout)

    # -- the worker ------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Starts the worker if it is not running. Called with the lock held."""
        self._changed.notify_all()
        if self._closing or (self._worker is not None and self._worker.is_alive()):
            return
        self._worker = threading.Thread(target=self._work, name="atelier-worker", daemon=True)
        self._worker.start()

    def _check_worker(self) -> None:
        """Notices a killed worker: its run is interrupted, and the queue goes on. Called with the lock held."""
        if self._worker is None or self._worker.is_alive():
            return
        self._worker = None
        killed, self._running = self._running, None
        if killed is not None:
            tell_killed(killed)
        if self._order.ids:
            self._wake()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            lock = FolderLock(job.record.folder)
            try:
                if self._claim(job, lock.acquire()):
                    leave_queue, interrupted = partial(self._dequeue, job), lambda: self._interrupt is job
                    carry_out(job, self.host, self._train, leave_queue, interrupted)
                    lock.release()
                    tidy(self.host.folders.runs, self.host.folders.cache, picture_folders(self.jobs()))
                    trim(self.jobs())
            finally:
                lock.release()
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _next(self) -> Job | None:
        """Waits for the next run of the queue; None when the WebUI ends."""
        with self._changed:
            while not self._order.ids and not self._closing:
                self._changed.wait()
            if self._closing:
                return None
            self._rest_of_the_ended()
            job = self._running = self._jobs[self._order.ids[0]]
            return job

    def _claim(self, job: Job, locked: bool) -> bool:
        """False, and out of this queue, when another process with the same folder trains or has trained the run."""
        with self._changed:
            on_disk = Record.open(job.record.folder).state
            job.elsewhere = not locked or on_disk not in ("queued", job.state)
            if not job.elsewhere and job.state == "queued":
                return True
            self._dequeue(job)
            return False

    def _rest_of_the_ended(self) -> None:
        for job in self._jobs.values():
            if not job.is_open:
                job.record.rest()

    # -- the queue -------------------------------------------------------------------------------------------------

    def _enqueue(self, job: Job) -> None:
        self._order.append(job.id)
        self._check_worker()
        self._wake()

    def _dequeue(self, job: Job) -> None:
        with self._changed:
            self._order.remove(job.id)

    def _ours(self, job_id: str) -> Job:
        job = self.get(job_id)
        if job.elsewhere:
            raise AtelierError(ELSEWHERE.format(job.name))
        if job.record.newer:
            raise AtelierError(f"{job.name} was recorded by a newer version of Atelier. Update Atelier to resume it.")
        return job

    def _going(self, job_id: str, action: str = "pause") -> Job:
        """The run, when `action` is possible now. Raises `AtelierError` when it is not."""
        job = self._ours(job_id)
        if action not in job.actions:
            why = "it is not running" if job.state in ("queued", "paused") or not job.is_open else f"it is {job.state}"
            raise AtelierError(f"{job.name} cannot {action} now: {why}.")
        return job

    def _check_still_free(self, job: Job) -> None:
        mine = job.record.newest("saved") or {}
        final = self.host.folders.lora / f"{job.name}.safetensors"
        others = [other for other in self._jobs.values() if other.is_open and other.name.lower() == job.name.lower()]
        if others or (final.exists() and mine.get("name") != job.name):
            raise AtelierError(
                f"{job.name} cannot be resumed: another run has this name now, and saved files are not overwritten."
            )


def _trainer(config: JobConfig, host: Host, record: Record, control: Control) -> object:
    """The trainer, imported when the first run starts, so that the WebUI's start does not wait for it."""
    from atelier.training.run import train

    return train(config, host, record, control)
