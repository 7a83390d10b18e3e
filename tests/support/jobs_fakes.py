"""A host without a model, and trainers that do what a test tells them, waiting on events and never on the clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.job import JobConfig
from atelier.config.settings.schema import Settings
from atelier.hosts.contract import Folders, ModelInfo
from atelier.jobs.control import Control
from atelier.jobs.queue import Jobs
from atelier.jobs.record import Record

PATIENCE = 30.0
"""Seconds until a test gives up on what should happen at once."""


def model(title: str = "base", refusal: str | None = None) -> ModelInfo:
    return ModelInfo(title, "sd1", None, f"identity of {title}", "epsilon", "float32", "cpu", refusal)


class FakeHost:
    """Folders below `root`, and a model that a test may change."""

    name = "fake"
    version = "1"

    def __init__(self, root: Path) -> None:
        self.folders = Folders(root / "lora", root / "checkpoints", root / "runs", root / "cache")
        for folder in (self.folders.lora, self.folders.runs):
            folder.mkdir(parents=True, exist_ok=True)
        self.model: ModelInfo | None = model()
        self.memory: Any = None

    def loaded_model(self) -> ModelInfo | None:
        return self.model

    def lease(self, parts: frozenset[str]) -> Any:
        return nullcontext()

    def publish_lora(self, path: Path) -> None:
        """Nothing to do."""

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Nothing to do."""

    def sample(self, request: Any) -> Image.Image | None:
        return None


def job_named(name: str = "cat", trigger: str = "zwx", **settings: Any) -> JobConfig:
    asked = Settings(output_name=name, trigger=trigger, train_data_dir="pictures", **settings)
    return JobConfig(asked, DatasetConfig([Dataset(subsets=[Subset(image_dir="pictures")])]))


def keep_state(record: Record, step: int) -> None:
    """What the trainer leaves to go on from."""
    (record.folder / "state").mkdir(exist_ok=True)
    (record.folder / "state" / f"{step:09d}.safetensors").write_bytes(b"state")


def write_lora(host: Any, record: Record, name: str, step: int, kind: str = "final") -> Path:
    path = host.folders.lora / f"{name}.safetensors"
    path.write_bytes(b"lora")
    record.saved(path, step, 1, kind)
    return path


class Steered:
    """A trainer that runs until it is told to stop, and lets a test see where it is.

    It goes through the same states as the real one, and takes a step whenever `step()` is called.
    """

    def __init__(self, total: int = 10) -> None:
        self.total = total
        self.names: list[str] = []
        self.threads: list[threading.Thread] = []
        self.taken: list[str] = []
        self._changed = threading.Condition()
        self._allowed = 0
        self._events: set[str] = set()

    def __call__(self, job: JobConfig, host: Any, record: Record, control: Control) -> None:
        self.threads.append(threading.current_thread())
        record.status("preparing", "Looking at the pictures.")
        self.names.append(job.name)
        self._note(f"began {job.name}")
        step = 0
        while step < self.total:
            record.status("running")
            self._note("running")
            with self._changed:
                self._changed.wait_for(lambda: self._allowed or self._asked(control), 0.01)
            if control.stopping:
                record.status("stopped", f"Stopped after step {step}. What was learned is kept.")
                return
            if control.paused:
                record.status("paused", "Paused.")
                self._note("paused")
                control.wait_while_paused(PATIENCE)
                continue
            if control.take_save():
                self.taken.append("save")
                write_lora(host, record, f"{job.name}-step{step:08d}", step, "asked")
                self._note("saved")
            if control.take_sample():
                self.taken.append("sample")
                record.sample(step, 0, "a zwx", Image.new("RGB", (8, 8), (step, 0, 0)))
                self._note("sampled")
            with self._changed:
                if not self._allowed:
                    continue
                self._allowed -= 1
            step += 1
            record.losses([(step, 1.0 / step, {"unet": 1e-4})])
            record.progress(step, self.total, 1, 1, 0.5, (self.total - step) * 0.5, 1000)
            self._note(f"step {step}")
        write_lora(host, record, job.name, step)
        record.status("done", "Done.")

    def step(self, count: int = 1) -> None:
        """Lets the trainer take steps."""
        with self._changed:
            self._allowed += count
            self._changed.notify_all()

    def finish(self) -> None:
        """Lets this run, and those after it, go to their end."""
        self.step(10_000)

    def until(self, what: str) -> None:
        """Waits until the trainer has come to "began NAME", "running", "paused", "step N", "saved" or "sampled"."""
        with self._changed:
            assert self._changed.wait_for(lambda: what in self._events, PATIENCE), f"never {what}: {self._events}"
            self._events.discard(what)

    def _note(self, what: str) -> None:
        with self._changed:
            self._events.add(what)
            self._changed.notify_all()

    @staticmethod
    def _asked(control: Control) -> bool:
        return control.stopping or control.paused


def finished(jobs: Jobs, *waited: Any) -> None:
    """Waits for runs to end."""
    for job in waited:
        assert jobs.wait(job, PATIENCE), f"{job.id} is still {job.state}"


def ended_by(do: Callable[[], None]) -> Callable[..., None]:
    """A trainer that does one thing."""

    def train(job: JobConfig, host: Any, record: Record, control: Control) -> None:
        do()

    return train
