"""A run in the queue: its settings, its record, and what the page shows and can do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig, job_from_dict, job_to_dict
from atelier.config.kohya.toml_out import dataset_toml, training_toml
from atelier.hosts.contract import ModelInfo
from atelier.jobs.control import Control
from atelier.jobs.files import plain, read_json, size_of
from atelier.jobs.lock import FolderLock
from atelier.jobs.record import ENDED, Record

ACTIONS = ("stop", "pause", "resume", "save", "sample")
SIZE_SECONDS = 5.0
"""Least seconds between two looks at how large an open run is on the disk."""
ASKED = {"save": "The file is saved after this step.", "sample": "The samples are drawn after this step."}
"""What goes on once a button was pressed, until the trainer comes to it."""


class Job:
    """A run: its settings (`config`), the requests of the person (`control`) and its record."""

    def __init__(self, job_id: str, record: Record, config: JobConfig | None = None) -> None:
        self.id = job_id
        self._record = record
        self.control = Control()
        self.elsewhere = False
        """True when another process with the same folder trains this run."""
        self._config = config
        self._size: tuple[str, float, int] | None = None
        """State, time on the monotonic clock and bytes, when the size was last looked at."""

    @property
    def record(self) -> Record:
        """The record. When another process trains the run, it is read from the disk each time."""
        return Record.open(self._record.folder) if self.elsewhere else self._record

    @property
    def config(self) -> JobConfig:
        """The settings and datasets. Raises `AtelierError` when the record has lost them."""
        if self._config is None:
            asked = read_json(self.record.folder / "request.json", None)
            if not isinstance(asked, dict):
                raise AtelierError(f"The settings of {self.name} cannot be read from {self.record.folder}.")
            self._config = job_from_dict(asked)
        return self._config

    @property
    def name(self) -> str:
        """The output name."""
        return str(self.record.about.get("name") or self.id)

    @property
    def trigger(self) -> str:
        """The trigger word; "" when there is none."""
        return str(self.record.about.get("trigger") or "")

    @property
    def trains(self) -> str:
        """ "lora", or "checkpoint" for a run that trains the whole model. Records of 0.1.0 do not say which."""
        return "checkpoint" if self.record.about.get("trains") == "checkpoint" else "lora"

    @property
    def state(self) -> str:
        """One of `record.STATES`."""
        return self.record.state

    @property
    def is_open(self) -> bool:
        """True until the run has ended."""
        return self.state not in ENDED

    @property
    def base(self) -> dict[str, Any]:
        """The model that was loaded when the run was started: "title" and "identity". Empty when there was none."""
        base = self.record.about.get("base")
        return base if isinstance(base, dict) else {}

    @property
    def kept_step(self) -> int | None:
        """The step of the newest saved state; None when there is no state to resume from."""
        states = self.record.folder / "state"
        steps = [int(path.stem) for path in states.glob("*.safetensors") if path.stem.isdecimal()]
        return max(steps, default=None)

    @property
    def resumable(self) -> bool:
        """True when the run ended early and left a state to resume from."""
        early = self.state in ("interrupted", "stopped", "failed")
        return early and not self.record.newer and not self.elsewhere and self.kept_step is not None

    @property
    def actions(self) -> list[str]:
        """The `ACTIONS` that are possible now."""
        if self.record.newer or self.elsewhere:
            return []
        if not self.is_open:
            return ["resume"] if self.resumable else []
        if self.state == "queued" or self.control.stopping:
            if not self.control.stopping:
                return ["stop"]
            drawing = self.record.doing is not None and not self.control.hurried
            return ["stop"] if drawing and self.state == "running" else []
        if self.state == "paused" or self.control.paused:
            return ["stop", "resume"]
        return ["stop", "pause", "save", "sample"] if self.state in ("running", "preparing") else ["stop", "pause"]

    @property
    def deletable(self) -> bool:
        """True when the run has ended and its record may be deleted."""
        return not self.is_open and not self.elsewhere and not self.record.newer

    @property
    def size(self) -> int:
        """Bytes of the record on the disk: states, samples, losses, log. An ended run is looked at once."""
        now, state = time.monotonic(), self.state
        if self._size is None or self._size[0] != state or (self.is_open and now - self._size[1] > SIZE_SECONDS):
            self._size = (state, now, size_of(self._record.folder))
        return self._size[2]

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """True inside the block when no other process trains this run, or has trained it since it was read."""
        lock = FolderLock(self._record.folder)
        try:
            yield lock.acquire() and Record.open(self._record.folder).state == self.state
        finally:
            lock.release()

    def forget_size(self) -> None:
        """Lets `size` look anew: something in the folder was removed."""
        self._size = None

    def activity(self) -> dict[str, Any] | None:
        """What goes on now: "text", and "done" of "total" where it can be counted; None when there is nothing to say.

        The steps of the training itself are told by the progress.
        """
        if not self.is_open:
            return None
        asked = ASKED.get(self.control.asked, "") if self.state == "running" else ""
        return self.record.doing or ({"text": asked, "done": None, "total": None} if asked else None)

    def summary(self) -> dict[str, Any]:
        """The facts for a list of runs, as plain data for JSON."""
        record = self.record
        times = {key: record.about.get(key) for key in ("created", "started", "ended")}
        return plain(
            {
                "id": self.id,
                "name": self.name,
                "trigger": self.trigger,
                "base": self.base.get("title"),
                "trains": self.trains,
                "state": self.state,
                "message": record.state_message,
                "step": record.step,
                "total": record.total,
                **times,
                "asked": self._asked(),
                "activity": self.activity(),
                "size": self.size,
                "saved": record.newest_save(),
                "deletable": self.deletable,
                "actions": self.actions,
                "resumable": self.resumable,
                "newer": record.newer,
            }
        )

    def _asked(self) -> str:
        """What was asked for and the run has not reacted to yet: "stop", "pause", "save" or "sample", else ""."""
        if not self.is_open or self.state == "queued":
            return ""
        if self.control.stopping:
            return "stop"
        if self.control.paused and self.state != "paused":
            return "pause"
        return self.control.asked if self.state == "running" else ""


def new_job(job_id: str, config: JobConfig, base: ModelInfo | None, runs: Path) -> Job:
    """A run with a new record below the folder `runs`. Raises `AtelierError` when the record cannot be written."""
    files = {
        "request.json": json.dumps(job_to_dict(config)),
        "settings.toml": training_toml(config),
        "dataset.toml": dataset_toml(config),
    }
    trains = "checkpoint" if config.settings.train_whole_model else "lora"
    about: dict[str, Any] = {"name": config.name, "trigger": config.trigger, "trains": trains}
    if base is not None:
        about["base"] = {"title": base.title, "identity": base.identity}
    return Job(job_id, Record.create(runs / job_id, files, about), config)


def picture_folders(jobs: Iterable[Job]) -> list[str]:
    """Folders of pictures that open or resumable runs need."""
    found: list[str] = []
    for job in jobs:
        if job.is_open or job.resumable:
            with suppress(AtelierError):  # a damaged record names no folders
                found += [subset.image_dir for subset in job.config.datasets.subsets if subset.image_dir]
    return found


def found_job(folder: Path) -> Job | None:
    """The run recorded in `folder`; None when the folder is no record."""
    if not (folder / "job.json").is_file() and not (folder / "request.json").is_file():
        return None
    return Job(folder.name, Record.open(folder))


def interruption(job: Job, what: str) -> str:
    """A sentence for a run that was cut off: what happened (`what`), and what can be done."""
    step = job.kept_step
    if step is None:
        return f"{what} before a state of this run was saved. Press Train again."
    return f"{what} during this run. Press Resume to go on from step {step}."
