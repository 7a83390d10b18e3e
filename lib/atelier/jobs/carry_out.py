"""One run from the queue to its end: wait for its model, train, and write to its record how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.hosts.contract import Host
from atelier.jobs.control import Control
from atelier.jobs.job import Job, interruption
from atelier.jobs.record import Record
from atelier.jobs.webhook import watch

log = logging.getLogger(__name__)

Train = Callable[[JobConfig, Host, Record, Control], object]
LOOK_AGAIN = 0.5
"""Seconds between two checks whether the WebUI has loaded the model that a run waits for."""


def carry_out(
    job: Job, host: Host, train: Train, leave_queue: Callable[[], None], interrupted: Callable[[], bool]
) -> None:
    """Trains a run.

    `leave_queue` is called when the run begins, or is stopped before that. `interrupted` says whether a stop came from
    the end of the WebUI: the run then stays in the queue, or can be resumed. Whatever the training raises is told in
    the run's record; only what ends the thread itself goes on from here.
    """
    record = job.record
    try:
        config = job.config
        if not _base_is_loaded(job, host):
            if not interrupted():
                leave_queue()
                record.status("stopped", "Removed from the queue.")
            return
        leave_queue()
        watch(record, job.id, config)
        train(config, host, record, job.control)
        if job.is_open or (interrupted() and job.state == "stopped"):
            _tell_the_end(job, interrupted())
    except AtelierError as error:
        record.log_exception(error)
        record.status("failed", str(error))
    except Exception as error:  # a fault of this run must not end the worker: the next run shall start
        record.log_exception(error)
        log.exception("the training of %s failed", job.name)
        record.status("failed", f"{_in_words(error)} The details are in {record.folder / 'log.txt'}.")
    except BaseException as error:
        record.log_exception(error)
        tell_killed(job)
        raise
    record.keep_progress()


def tell_killed(job: Job) -> None:
    """Writes to the record of an open run that its thread was killed."""
    if job.is_open:
        job.record.status("interrupted", interruption(job, "The training thread was killed"))


def _base_is_loaded(job: Job, host: Host) -> bool:
    """Waits until the WebUI has loaded the model that the run was started for. False when it is stopped first."""
    wanted = job.base.get("identity")
    while not job.control.stopping:
        info = host.loaded_model()
        if wanted is None or (info is not None and info.identity == wanted):
            return True
        job.record.status("queued", f"Waiting for the model {job.base.get('title')}. Load it, and training starts.")
        job.control.wait_for_request(LOOK_AGAIN)
    return False


def _tell_the_end(job: Job, interrupted: bool) -> None:
    """For a training that ended without a word."""
    if interrupted:
        job.record.status("interrupted", interruption(job, "The WebUI ended"))
    elif job.control.stopping:
        job.record.status("stopped", "Stopped.")
    else:
        job.record.status("done", "Done.")


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".: ") + "."
