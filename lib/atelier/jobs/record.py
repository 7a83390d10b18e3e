"""The record of one run: a folder with what was asked, what happened, and what came of it.

job.json       what it is, and how it stands
settings.toml  dataset.toml    what was asked, as kohya's scripts would read it
events.jsonl   one event a line, numbered
losses.jsonl   [step, loss, {rate name: rate}] a line
samples/       STEP-INDEX.png
log.txt        tracebacks
state/         what the trainer needs to go on
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from atelier.config.errors import AtelierError

VERSION = 1
STATES = ("queued", "preparing", "running", "paused", "waiting", "done", "stopped", "failed", "interrupted")
ENDED = ("done", "stopped", "failed", "interrupted")


class Record:
    """Writing to it never raises once it exists: a full disk costs lines of the record, never the training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._events: list[dict[str, Any]] = []
        self._losses: list[list[Any]] = []
        self._progress: dict[str, Any] = {}
        self._samples: list[dict[str, Any]] = []
        self._saves: list[dict[str, Any]] = []
        self.state = "queued"
        self.state_message = ""
        self.newer = False

    @classmethod
    def create(cls, folder: Path, files: Mapping[str, str]) -> Record:
        """A new record with the given text files in it. Raises `AtelierError` when the folder cannot be written."""
        record = cls(folder)
        try:
            (folder / "samples").mkdir(parents=True, exist_ok=False)
            for name, text in files.items():
                write_text(folder / name, text)
        except OSError as error:
            raise AtelierError(
                f"The run cannot be recorded in {folder}: {error.strerror or error}. Make the folder writable."
            ) from error
        record.status("queued")
        return record

    @classmethod
    def open(cls, folder: Path) -> Record:
        """A record from an earlier time. What is damaged in it is left out; a newer version's is only shown."""
        record = cls(folder)
        head = read_json(folder / "job.json", {})
        record.newer = isinstance(head, dict) and int(head.get("version", 0) or 0) > VERSION
        if isinstance(head, dict):
            record.state = str(head.get("state", "interrupted"))
            record.state_message = str(head.get("message", ""))
            record._progress = dict(head.get("progress") or {})
        record._events = [row for row in read_lines(folder / "events.jsonl") if isinstance(row, dict)]
        record._losses = [row for row in read_lines(folder / "losses.jsonl") if isinstance(row, list)]
        for event in record._events:
            if event.get("kind") == "sample":
                record._samples.append(event)
            elif event.get("kind") == "saved":
                record._saves.append(event)
        return record

    # -- what the trainer writes ----------------------------------------------------------------------------------

    def status(self, state: str, message: str = "") -> None:
        """One of `STATES`, with a sentence for the person."""
        with self._lock:
            self.state, self.state_message = state, message
            self._write_head()
        self.event("status", state=state, message=message)

    def event(self, kind: str, **data: Any) -> dict[str, Any]:
        """Appends an event and gives it, with its number. Numbers count up whatever the clock does."""
        with self._lock:
            number = self._events[-1]["id"] + 1 if self._events else 1
            event = {"id": number, "time": time.time(), "kind": kind, **data}
            self._events.append(event)
            self._append("events.jsonl", event)
            return event

    def message(self, text: str, level: str = "info") -> dict[str, Any]:
        """A sentence for the person: "info", "warning" or "error"."""
        return self.event("message", text=text, level=level)

    def progress(
        self, step: int, total: int, epoch: int, epochs: int, seconds_per_step: float, eta: float, memory: int
    ) -> None:
        """Where the run is: seconds, bytes. Only the newest is kept."""
        with self._lock:
            self._progress = {
                "step": step, "total": total, "epoch": epoch, "epochs": epochs,
                "seconds_per_step": seconds_per_step, "eta": eta, "memory": memory,
            }  # fmt: skip

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None:
        """Adds (step, loss, learning rates) rows."""
        with self._lock:
            for step, loss, rates in rows:
                row = [step, loss if math.isfinite(loss) else None, dict(rates)]
                self._losses.append(row)
                self._append("losses.jsonl", row)

    def sample(self, step: int, index: int, prompt: str, image: Image.Image) -> None:
        """Keeps a sample picture as samples/STEP-INDEX.png."""
        name = f"{step:08d}-{index}.png"
        try:
            image.save(self.folder / "samples" / name)
        except OSError as error:
            self.message(f"A sample picture could not be kept: {error}.", "warning")
            return
        event = self.event("sample", step=step, index=index, prompt=prompt, file=name)
        with self._lock:
            self._samples.append(event)

    def saved(self, path: Path, step: int, epoch: int) -> None:
        """Notes a file that the run wrote."""
        event = self.event("saved", path=str(path), name=path.stem, step=step, epoch=epoch)
        with self._lock:
            self._saves.append(event)

    def log(self, text: str) -> None:
        """Adds to log.txt."""
        try:
            with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(text.rstrip() + "\n")
        except OSError as error:
            self.event("log", text=f"log.txt could not be written: {error}")

    def log_exception(self, error: BaseException) -> None:
        """Adds a traceback to log.txt."""
        self.log("".join(traceback.format_exception(type(error), error, error.__traceback__)))

    # -- what the page reads --------------------------------------------------------------------------------------

    def since(self, event: int = 0, loss: int = 0) -> dict[str, Any]:
        """Events after number `event` and loss rows after the first `loss`, with where things stand now."""
        with self._lock:
            return {
                "state": self.state,
                "message": self.state_message,
                "progress": dict(self._progress),
                "events": [row for row in self._events if row["id"] > event],
                "losses": self._losses[loss:],
                "loss_count": len(self._losses),
                "samples": list(self._samples),
                "saves": list(self._saves),
            }

    @property
    def step(self) -> int:
        return int(self._progress.get("step", 0))

    def keep_progress(self) -> None:
        """Writes where the run is into job.json."""
        with self._lock:
            self._write_head()

    def _write_head(self) -> None:
        head = {
            "version": VERSION, "state": self.state, "message": self.state_message, "progress": self._progress,
        }  # fmt: skip
        if self.newer:
            return
        try:
            write_text(self.folder / "job.json", json.dumps(head))
        except OSError as error:
            self._events.append(self._lost(error))

    def _append(self, name: str, row: Any) -> None:
        try:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            if not any(event["kind"] == "unwritten" for event in self._events):
                self._events.append(self._lost(error))

    def _lost(self, error: OSError) -> dict[str, Any]:
        number = self._events[-1]["id"] + 1 if self._events else 1
        text = f"The record could not be written ({error.strerror or error}); training goes on."
        return {"id": number, "time": time.time(), "kind": "unwritten", "text": text, "level": "warning"}


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or leaves the old one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, default: Any) -> Any:
    """The content of a JSON file, `default` when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default


def read_lines(path: Path) -> list[Any]:
    """The rows of a JSON lines file; a line cut off by a crash is left out."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
