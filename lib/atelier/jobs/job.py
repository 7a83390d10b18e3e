"""A run in the queue: its settings, its record, and what the page shows and can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig, job_from_dict, job_to_dict
from atelier.config.kohya.toml_out import dataset_toml, training_toml
from atelier.hosts.contract import ModelInfo
from atelier.jobs.control import Control
from atelier.jobs.files import plain, read_json
from atelier.jobs.record import ENDED, Record

ACTIONS = ("stop", "pause", "resume", "save", "sample")


class Job:
    """A run: its settings (`config`), the requests of the person (`control`) and its record."""

    def __init__(self, job_id: str, record: Record, config: JobConfig | None = None) -> None:
        self.id = job_id
        self._record = record
        self.control = Control()
        self.elsewhere = False
        """True when another process with the same folder trains this run."""
        self._config = config

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
            return [] if self.control.stopping else ["stop"]
        if self.state == "paused" or self.control.paused:
            return ["stop", "resume"]
        return ["stop", "pause", "save", "sample"] if self.state in ("running", "preparing") else ["stop", "pause"]

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
                "actions": self.actions,
                "resumable": self.resumable,
                "newer": record.newer,
            }
        )

    def _asked(self) -> str:
        """ "stop" or "pause" when it was asked for and the run has not reacted yet, else ""."""
        if not self.is_open or self.state == "queued":
            return ""
        if self.control.stopping:
            return "stop"
        return "pause" if self.control.paused and self.state != "paused" else ""


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
