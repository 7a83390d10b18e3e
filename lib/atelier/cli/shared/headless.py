"""Training without a page: progress is printed, and Ctrl-C and SIGTERM stop the run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.config.kohya.toml_out import dataset_toml, training_toml
from atelier.hosts.contract import Host
from atelier.jobs.control import Control
from atelier.jobs.lock import FolderLock
from atelier.jobs.record import Record
from atelier.jobs.webhook import watch
from atelier.training.run import Outcome, train


def is_main_process() -> bool:
    """True in the process that prints and saves: the only one, or the first of those that accelerate launched."""
    return int(os.environ.get("RANK", "0")) == 0


class HeadlessRecord(Record):
    """A record of a run without a page."""

    quiet = False
    """True when the caller tells the person what happens."""
    first_step_at: float | None = None
    """When the first step's loss was known, by the monotonic clock."""


class PrintingRecord(HeadlessRecord):
    """Also tells on the terminal what happens."""

    _printed = 0.0

    def status(self, state: str, message: str = "") -> None:
        super().status(state, message)
        if message and not self.quiet:
            _say(message)

    def message(self, text: str, level: str = "info") -> dict[str, Any]:
        _say(text if level == "info" else f"{level}: {text}")
        return super().message(text, level)

    def saved(self, path: Path, step: int, epoch: int, kind: str) -> None:
        super().saved(path, step, epoch, kind)
        _say(f"Saved {path} after step {step}.")

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None:
        super().losses(rows)
        now = time.monotonic()
        if self.first_step_at is None:
            self.first_step_at = now
        if rows and (now - self._printed > 2.0):
            self._printed = now
            _say(f"step {rows[-1][0]}: loss {rows[-1][1]:.4f}")


def _say(text: str) -> None:
    """Prints, where there is still somebody to read it: a terminal that was closed ends no run."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


class SilentRecord(HeadlessRecord):
    """The record of the other processes of a launch: writes nothing."""

    def status(self, state: str, message: str = "") -> None:
        self.state = state

    def event(self, kind: str, **data: Any) -> dict[str, Any]:
        return {"id": 0, "kind": kind}

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None:
        """Nothing: the main process tells of the same losses."""

    def log(self, text: str) -> None:
        """Nothing."""


@contextmanager
def stopped_by_signals(control: Control) -> Iterator[None]:
    """Inside the block SIGINT and SIGTERM stop the run after its step, at once; a second one ends the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        control.stop(at_once=True)
        signal.signal(number, previous[number])

    previous: dict[int, Any] = {}
    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        previous[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)


def run_job(job: JobConfig, host: Host, folder: Path) -> tuple[Outcome, HeadlessRecord]:
    """Runs a job to its end, or goes on with the run in `folder` if it has a state. Raises `AtelierError`."""
    if not is_main_process():
        return _run(job, host, SilentRecord(folder))
    lock = FolderLock(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not lock.acquire():
        raise AtelierError(f"The run in {folder} is being trained by another process.")
    try:
        return _run(job, host, _record_in(folder, job))
    finally:
        lock.release()


def _record_in(folder: Path, job: JobConfig) -> HeadlessRecord:
    """The record of the run that `folder` has, else a new one."""
    if (folder / "job.json").exists() or (folder / "samples").is_dir():  # the latter: killed as it was begun
        record = cast(HeadlessRecord, PrintingRecord.open(folder))
        if record.newer:
            raise AtelierError(f"The run in {folder} is of a newer version of Atelier. Update Atelier to resume it.")
        return record
    files = {"settings.toml": training_toml(job), "dataset.toml": dataset_toml(job)}
    return cast(HeadlessRecord, PrintingRecord.create(folder, files))


def _run(job: JobConfig, host: Host, record: HeadlessRecord) -> tuple[Outcome, HeadlessRecord]:
    control = Control()
    with stopped_by_signals(control):
        watch(record, record.folder.name, job)
        try:
            outcome = train(job, host, record, control)
        except BaseException as error:
            record.log_exception(error)
            record.quiet = True  # who catches the error tells it
            record.status("failed", str(error))
            raise
    record.keep_progress()
    return outcome, record
