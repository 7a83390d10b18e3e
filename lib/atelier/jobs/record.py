"""The record of one run: a folder with its settings, its progress and its results.

job.json       name, state and progress
request.json   the job, as the queue reads it back
settings.toml  dataset.toml    the job again, for kohya's scripts
events.jsonl   one numbered event per line
losses.jsonl   [step, loss, {name: learning rate}] per line
samples/       STEP-INDEX.png
log.txt        tracebacks
state/         what the trainer needs to resume
"""

from __future__ import annotations

import io
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from atelier.config.errors import AtelierError
from atelier.jobs.files import LineFile, append_text, plain, read_json, read_lines, write_bytes, write_json
from atelier.jobs.losses import LossCurve
from atelier.jobs.story import shown, with_pictures

VERSION = 1
STATES = ("queued", "preparing", "running", "paused", "waiting", "done", "stopped", "failed", "interrupted")
ENDED = ("done", "stopped", "failed", "interrupted")
HEAD_SECONDS = 2.0
"""Least seconds between two times that progress alone rewrites job.json."""
EVENTS_SENT = 500
"""Most events in one answer to the page."""
LARGEST_LOG = 4 * 2**20
"""Bytes of log.txt from which on only its newer half is kept."""
LARGEST_STEP = 2**53
"""A larger step comes from a damaged record and is ignored."""
LASTING = ("sample", "saved", "validation", "plan")
"""Kinds of events that are always sent, however old they are."""
SAVE = ("path", "name", "step", "epoch", "save")
"""What is known of a saved file."""


class Record:
    """The record of one run. Writing never raises once it exists: a full disk loses lines of it, never the training.

    Safe from any thread. Files are read when they are first needed.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.state = "queued"
        self.state_message = ""
        self.newer = False
        """True for a record of a newer version of Atelier: it is shown, never written."""
        self.about: dict[str, Any] = dict(about or {})
        """Facts of the run: name, trigger, base, and the times "created", "started", "ended" in seconds."""
        self.doing: dict[str, Any] | None = None
        """What goes on now, for the page: "text", and "done" of "total" where it can be counted. Not kept on disk."""
        self.listener: Callable[[str, str], None] | None = None
        """Called with each new state and its message."""
        self._lock = threading.RLock()
        self._progress: dict[str, Any] = {}
        self._events: list[dict[str, Any]] = []
        self._curve = LossCurve()
        self._read = False
        self._lost = False
        self._head_written = float("-inf")
        self._event_file = LineFile(folder / "events.jsonl")
        self._loss_file = LineFile(folder / "losses.jsonl")

    @classmethod
    def create(cls, folder: Path, files: Mapping[str, str], about: Mapping[str, Any] | None = None) -> Record:
        """A new record with the given text files in it. Raises `AtelierError` when the folder cannot be written."""
        record = cls(folder, {**(about or {}), "created": time.time()})
        record._read = True
        try:
            (folder / "samples").mkdir(parents=True, exist_ok=False)
            for name, text in files.items():
                write_bytes(folder / name, text.encode("utf-8", "replace"))
            write_json(folder / "job.json", record._head(), durable=True)
        except OSError as error:
            raise AtelierError(
                f"The run cannot be recorded in {folder}: {error.strerror or error}. "
                "Make the folder writable, or free some space on its disk."
            ) from error
        return record

    @classmethod
    def open(cls, folder: Path) -> Record:
        """Opens an existing record. Damaged parts are ignored."""
        record = cls(folder)
        head = read_json(folder / "job.json", {})
        if not isinstance(head, dict):
            head = {}
        version = head.get("version", 0)
        record.newer = isinstance(version, (int, float)) and version > VERSION
        record.state = str(head.get("state") or "interrupted")
        record.state_message = str(head.get("message") or "")
        record._progress = head["progress"] if isinstance(head.get("progress"), dict) else {}
        record.about = head["about"] if isinstance(head.get("about"), dict) else {}
        return record

    # -- what the trainer writes -----------------------------------------------------------------------------------

    def status(self, state: str, message: str = "") -> None:
        """Sets the state, one of `STATES`, with a sentence for the person."""
        if self.newer:
            return
        with self._lock:
            if state == self.state and message == self.state_message:
                return
            was, self.state, self.state_message = self.state, state, message
            self.doing = None
            if state in ENDED:
                self.about["ended"] = time.time()
            elif state != "queued":
                self.about.setdefault("started", time.time())
                self.about.pop("ended", None)
            self._write_head(durable=True)
            self.event("status", state=state, message=message, was=was, step=self.step)
        if self.listener is not None:
            self.listener(state, message)

    def activity(self, text: str = "", done: int | None = None, total: int | None = None) -> None:
        """Notes what goes on now, until the state changes; "" ends it. `done` of `total`, where it can be counted."""
        self.doing = {"text": text, "done": done, "total": total} if text else None

    def event(self, kind: str, **data: Any) -> dict[str, Any]:
        """Appends an event and returns it with its number. Numbers always count up, whatever the clock does."""
        with self._lock:
            self._need_rows()
            number = self._events[-1]["id"] + 1 if self._events else 1
            event = {**plain(data), "id": number, "time": time.time(), "kind": kind}
            self._events.append(event)
            self._append(self._event_file, [event])
            return event

    def message(self, text: str, level: str = "info") -> dict[str, Any]:
        """Appends a sentence for the person. `level`: "info", "warning" or "error"."""
        return self.event("message", text=text, level=level)

    def progress(
        self, step: int, total: int, epoch: int, epochs: int, seconds_per_step: float, eta: float, memory: int
    ) -> None:
        """Notes the progress (times in seconds, memory in bytes). Only the newest is kept, and the peak of memory."""
        with self._lock:
            peak = max(memory, self._number("peak_memory"))
            self._progress = {
                "step": step, "total": total, "epoch": epoch, "epochs": epochs,
                "seconds_per_step": seconds_per_step, "eta": eta, "memory": memory, "peak_memory": peak,
            }  # fmt: skip
            if time.monotonic() - self._head_written >= HEAD_SECONDS:
                self._write_head()

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None:
        """Adds rows of (step, loss, learning rates). A step that exists already replaces its row and all later ones."""
        with self._lock:
            self._need_rows()
            self._append(self._loss_file, [self._curve.add(step, loss, rates) for step, loss, rates in rows])

    def validation(self, step: int, loss: float) -> None:
        """Notes the validation loss at a step."""
        self.event("validation", step=step, loss=loss)

    def sample(self, step: int, index: int, prompt: str, image: Image.Image) -> None:
        """Keeps a sample picture as samples/STEP-INDEX.png."""
        name = f"{step:08d}-{index}.png"
        try:
            content = io.BytesIO()
            image.save(content, "PNG")
            (self.folder / "samples").mkdir(exist_ok=True)
            write_bytes(self.folder / "samples" / name, content.getvalue())
        except (OSError, ValueError) as error:
            self.message(f"A sample picture could not be written: {error}.", "warning")
            return
        self.event("sample", step=step, index=index, prompt=prompt, file=name)

    def saved(self, path: Path, step: int, epoch: int, kind: str) -> None:
        """Notes a file that the run wrote. `kind`: "epoch", "step", "asked" or "final"."""
        event = self.event("saved", path=str(path), name=path.stem, step=step, epoch=epoch, save=kind)
        with self._lock:
            self.about["saved"] = {key: event[key] for key in SAVE}
            self._write_head()

    def saved_files(self) -> list[tuple[Path, int, int, str]]:
        """All (path, step, epoch, kind) noted by `saved`, also before a restart. Damaged entries are ignored."""
        with self._lock:
            self._need_rows()
            found = [event for event in self._events if event["kind"] == "saved"]
        files = []
        for event in found:
            path, step, epoch, kind = (event.get(key) for key in ("path", "step", "epoch", "save"))
            if isinstance(path, str) and isinstance(step, int) and isinstance(epoch, int):
                files.append((Path(path), step, epoch, kind if isinstance(kind, str) else "step"))
        return files

    def log(self, text: str) -> None:
        """Adds to log.txt."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            append_text(self.folder / "log.txt", f"[{stamp}] {text.rstrip()}\n", LARGEST_LOG)
        except OSError as error:
            self._note_loss(error)

    def log_exception(self, error: BaseException) -> None:
        """Adds a traceback to log.txt."""
        self.log("".join(traceback.format_exception(type(error), error, error.__traceback__)))

    # -- what the page reads ---------------------------------------------------------------------------------------

    def view(self, after_event: int = 0, cursor: str = "") -> dict[str, Any]:
        """The run's state, its events after number `after_event`, and its losses after the `cursor` of the last view.

        The first view (0, "") has all pictures and files but only the newest messages.
        """
        with self._lock:
            self._need_rows()
            events = [event for event in self._events if event["id"] > after_event]
            if after_event <= 0:
                newest = {event["id"] for event in events[-EVENTS_SENT:]}
                events = [event for event in events if event["kind"] in LASTING or event["id"] in newest]
                events = with_pictures(events, self.folder / "samples") if self.state in ENDED else events
            else:
                events = events[:EVENTS_SENT]
            return {
                "state": self.state,
                "message": self.state_message,
                "progress": plain(self._progress),
                "events": [shown(event) for event in events],
                "last_event": events[-1]["id"] if events else max(0, after_event),
                "losses": self._curve.since(cursor),
                "rates": plain(self._curve.rates),
            }

    def newest_save(self) -> dict[str, Any] | None:
        """The newest saved file, by `SAVE`; None when there is none. The events are read for records of 0.1.0 only."""
        known = self.about.get("saved")
        if not isinstance(known, dict):
            event = self.newest("saved") or {}
            known = self.about["saved"] = {key: event[key] for key in SAVE if key in event}
        return known if isinstance(known.get("name"), str) else None

    def newest(self, kind: str) -> dict[str, Any] | None:
        """The newest event of a kind; None when there is none."""
        with self._lock:
            self._need_rows()
            return next((dict(event) for event in reversed(self._events) if event["kind"] == kind), None)

    @property
    def step(self) -> int:
        """Finished steps; 0 when they are not known."""
        return self._number("step")

    @property
    def total(self) -> int:
        """Steps of the whole run; 0 while they are not known."""
        return self._number("total")

    def keep_progress(self) -> None:
        """Writes the progress to job.json."""
        with self._lock:
            self._write_head()

    def rest(self) -> None:
        """Frees memory of what can be read back from the disk; for a run that has ended and is not shown."""
        with self._lock:
            if self._event_file.complete and self._loss_file.complete:
                self._events, self._curve, self._read = [], LossCurve(), False

    # -- files -----------------------------------------------------------------------------------------------------

    def _need_rows(self) -> None:
        if self._read:
            return
        self._read = True
        for row in read_lines(self.folder / "events.jsonl"):
            number = row.get("id") if isinstance(row, dict) else None
            above = self._events[-1]["id"] if self._events else 0
            if isinstance(number, int) and number > above and isinstance(row.get("kind"), str):
                self._events.append(plain(row))
        self._curve.read(read_lines(self.folder / "losses.jsonl"))

    def _head(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "state": self.state,
            "message": self.state_message,
            "about": self.about,
            "progress": self._progress,
        }

    def _write_head(self, durable: bool = False) -> None:
        if self.newer:
            return
        self._head_written = time.monotonic()
        try:
            write_json(self.folder / "job.json", self._head(), durable)
        except OSError as error:
            self._note_loss(error)

    def _append(self, file: LineFile, rows: Sequence[Any]) -> None:
        if self.newer:
            return
        try:
            file.append(rows)
        except OSError as error:
            self._note_loss(error)

    def _note_loss(self, error: OSError) -> None:
        """Tells the person, only once, that the record cannot be written."""
        if self._lost:
            return
        self._lost = True
        reason = error.strerror or str(error)
        self.message(f"The record in {self.folder} cannot be written ({reason}). Training goes on.", "warning")

    def _number(self, key: str) -> int:
        value = self._progress.get(key)
        return int(value) if isinstance(value, (int, float)) and 0 <= value < LARGEST_STEP else 0
