"""The last errors of the runs in a data folder, from their records."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier.config.settings.schema import options
from atelier.jobs.files import read_json, read_lines
from atelier.report.anonymise import Anonymiser

LOOKED_AT = 50
"""The newest runs, of which the names are known to be private."""
TOLD = 4
"""The newest runs with something wrong, which are told."""
MESSAGES = 8
"""The last warnings and errors that are told of a run."""
STATES = ("queued", "preparing", "running", "paused", "waiting", "done", "stopped", "failed", "interrupted")
WRONG = ("warning", "error")
GB = 1 << 30
LOG_BYTES, LOG_LINES = 1 << 18, 80
_ENTRY = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ", re.MULTILINE)
_WORD = re.compile(r"[\w,]{1,24}")
PLAIN = ("resolution", "optimizer_type")
"""Settings of free text that are told if they are a word or numbers."""


@dataclass(frozen=True)
class Run:
    """A record's folder and what its job.json says."""

    folder: Path
    head: Mapping[str, Any]

    @property
    def state(self) -> str:
        """One of `STATES`, "unknown" for anything else that a damaged record says."""
        state = self.head.get("state")
        return state if state in STATES else "unknown"


def newest_runs(folder: Path) -> list[Run]:
    """The newest runs recorded below `folder`, newest first."""
    found = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
    for path in paths:
        record = path / "job.json"
        try:
            found.append((record.stat().st_mtime, path))
        except OSError:  # no record
            continue
    newest = sorted(found, reverse=True)[:LOOKED_AT]
    heads = ((path, read_json(path / "job.json", {})) for _, path in newest)
    return [Run(path, head if isinstance(head, dict) else {}) for path, head in heads]


def error_lines(runs: list[Run], hide: Anonymiser) -> Iterator[str]:
    """The last errors of the newest runs that have any, as lines."""
    shown = 0
    for run in runs:
        lines = list(_lines(run, hide))
        if lines and shown < TOLD:
            shown += 1
            yield from [*lines, ""]
    states: dict[str, int] = {}
    for run in runs:
        states[run.state] = states.get(run.state, 0) + 1
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield f"All runs: {counted}." if runs else "There are no runs."


def _lines(run: Run, hide: Anonymiser) -> Iterator[str]:
    """What is wrong with a run, and nothing for one that went well."""
    events = [event for event in read_lines(run.folder / "events.jsonl") if isinstance(event, dict)]
    messages = [event for event in events if event.get("level") in WRONG or event.get("state") == "failed"]
    log = _log_end(run.folder / "log.txt")
    if not (messages or log or run.state in ("failed", "interrupted", "unknown")):
        return
    progress = run.head.get("progress")
    progress = progress if isinstance(progress, dict) else {}
    step, total, peak = (_number(progress.get(key)) for key in ("step", "total", "peak_memory"))
    yield f"{_when(run.head.get('about'))}: {run.state} at step {step:.0f} of {total:.0f}, {peak / GB:.1f} GB at most"
    if changed := ", ".join(_settings(run.folder)):
        yield f"  settings: {changed}"
    said = run.head.get("message")
    if isinstance(said, str) and said:
        yield from _indented(f"it says: {hide.text(said)}")
    for event in messages[-MESSAGES:]:
        text = event.get("text") or event.get("message")
        if isinstance(text, str) and text and text != said:
            yield from _indented(f"{'warning' if event.get('level') == 'warning' else 'error'}: {hide.text(text)}")
    if log:
        yield from _indented(f"log:\n{_shortened(hide.log(log))}")


def _settings(folder: Path) -> Iterator[str]:
    """The settings that are not as they are by themselves: numbers, and words from a list."""
    asked = read_json(folder / "request.json", {})
    held = asked.get("settings") if isinstance(asked, dict) else None
    if not isinstance(held, dict):
        return
    for option in options():
        value = held.get(option.key)
        if value is None or value == option.default:
            continue
        plain = isinstance(value, (bool, int, float)) or value in option.choices
        if plain or (option.key in PLAIN and _WORD.fullmatch(str(value))):
            yield f"{option.key} {value}"


def _log_end(path: Path) -> str:
    """The last entry of a log: a traceback, mostly."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    if size > LOG_BYTES:
        text = text.partition("\n")[2]
    entries = list(_ENTRY.finditer(text))
    return text[entries[-1].end() if entries else 0 :].strip("\n")


def _shortened(log: str) -> str:
    lines = log.splitlines()
    if len(lines) <= LOG_LINES:
        return log
    return "\n".join([*lines[: LOG_LINES // 4], "…", *lines[-LOG_LINES * 3 // 4 :]])


def _indented(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"  {line}"


def _when(about: Any) -> str:
    created = _number(about.get("created")) if isinstance(about, dict) else 0.0
    try:
        return time.strftime("Run of %Y-%m-%d %H:%M", time.localtime(created)) if created else "A run"
    except (OverflowError, ValueError, OSError):
        return "A run"


def _number(value: Any) -> float:
    """A number of a record, 0 for what is none."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 2**60 else 0.0
