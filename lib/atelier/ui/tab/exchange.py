"""Reads kohya's files into the tab's controls, and writes the settings of the tab as kohya's files."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.imports.importer import Imported, read_any
from atelier.config.kohya.exporter import export_job
from atelier.config.kohya.verdicts import HONOURED, KeyVerdict
from atelier.hosts.contract import Host
from atelier.ui.fields import shown_options, to_control
from atelier.ui.server.request import Request, job_of

EXPORTS = "exports"
"""Folder below the runs folder for files written for sd-scripts."""
MOST_KEYS = 200


@dataclass
class ReadIn:
    """The result of reading a file: controls to change by key, values without a control (`held`), and a report.

    There are no changes when the file was refused.
    """

    report: str
    changes: dict[str, Any] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)


def read_in(path: Path) -> ReadIn:
    """Reads a training or dataset TOML, a GUI preset or a LoRA file for the controls.

    The four fields keep their content where the file says nothing. A file that cannot be used is reported, not raised.
    """
    try:
        found = read_any(path)
    except AtelierError as error:
        return ReadIn(_problems([str(error)]))
    if not found.usable:
        return ReadIn(_report(found))
    changes = {}
    for option in shown_options():
        value = getattr(found.settings, option.key)
        if option.group == "Basics" and option.key not in found.values:
            continue
        changes[option.key] = to_control(option, value)
    if found.datasets is not None:
        changes["train_data_dir"] = ""
    datasets = [dataclasses.asdict(item) for item in found.datasets.datasets] if found.datasets else []
    return ReadIn(_report(found), changes, {"datasets": datasets, "extra": found.extra})


@dataclass(frozen=True)
class WrittenOut:
    """The files that were written, and a message about them as HTML."""

    files: list[str]
    message: str


def write_out(request: Request, host: Host) -> WrittenOut:
    """Writes the job that Train would start as files for sd-scripts. Raises `AtelierError`."""
    model = host.loaded_model()
    base = str(model.path) if model is not None and model.path is not None else None
    written = export_job(job_of(request, host), host.folders.runs / EXPORTS, base)
    files = [str(path) for path in (written.training, written.dataset, written.prompts) if path is not None]
    lines = [f"Written to {written.training.parent}. To train with sd-scripts:", written.command, *written.missing]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return WrittenOut(files, f'<div class="atelier-report" role="status">{text}</div>')


def _report(found: Imported) -> str:
    """The verdicts as HTML: honoured keys are only counted, all others are listed."""
    honoured = sum(key.verdict == HONOURED for key in found.keys)
    others = [key for key in found.keys if key.verdict != HONOURED]
    head = f"{found.path.name}: {found.kind}, {honoured} of {len(found.keys)} keys are used."
    if not found.usable:
        head = f"{found.path.name} ({found.kind}) cannot be used."
    parts = [f'<p class="atelier-count">{html.escape(head)}</p>']
    parts += [_problems(found.problems)] if found.problems else []
    parts += ["<ul class='atelier-notes'>" + _items(found.notes) + "</ul>"] if found.notes else []
    if others:
        rows = "".join(_row(key) for key in others[:MOST_KEYS])
        parts.append(
            f"<table><thead><tr><th>Key</th><th>Value</th><th>Verdict</th></tr></thead><tbody>{rows}</tbody></table>"
        )
    return f'<div class="atelier-report" role="status">{"".join(parts)}</div>'


def _row(key: KeyVerdict) -> str:
    said = key.verdict + (f": {key.note}" if key.note else "")
    place = f"{key.where}.{key.key}" if key.where else key.key
    cells = (place, str(key.as_dict()["value"])[:80], said)
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _problems(lines: Sequence[str]) -> str:
    return f'<p class="atelier-error" role="alert">{html.escape(chr(10).join(lines))}</p>'


def _items(lines: Sequence[str]) -> str:
    return "".join(f"<li>{html.escape(line)}</li>" for line in lines)
