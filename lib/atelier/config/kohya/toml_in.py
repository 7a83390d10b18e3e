"""Reads kohya's TOML, training settings and datasets, with errors that name the file and the line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.datasets import DatasetConfig
from atelier.config.errors import Problem, SettingsError
from atelier.config.files.paths import exists, expanded, is_file
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.kohya.assemble import Entry, Reading, assemble
from atelier.config.kohya.dataset_toml import read_datasets
from atelier.config.kohya.document import Document, read_document
from atelier.config.kohya.verdicts import NOT_SUPPORTED, UNKNOWN, training_verdict
from atelier.config.settings.schema import Settings

OURS = "atelier"
EXACT = "exact"
"""[atelier.exact] in files that we wrote: its values win. The other sections have them in sd-scripts' words."""


def flatten(content: Mapping[str, Any]) -> dict[str, Any]:
    """All keys of a training TOML without its sections, whose names mean nothing."""
    flat: dict[str, Any] = {}
    for entry in entries_of(content):
        flat[entry.key] = entry.value
    return flat


def entries_of(content: Mapping[str, Any]) -> list[Entry]:
    """The keys of a training TOML, each with its section. Keys of our own section come last, and so win."""
    found: list[Entry] = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            if key == OURS and isinstance(value.get(EXACT), Mapping):
                value = value[EXACT]
            found += [Entry(inner, item, where=key) for inner, item in value.items()]
        else:
            found.append(Entry(key, value))
    return [entry for entry in found if entry.where != OURS] + [entry for entry in found if entry.where == OURS]


def read_settings(document: Document, overrides: Mapping[str, str] | None = None) -> Reading:
    """Reads a training TOML. `overrides` (key -> text, from a command line) win. Wrong values become problems."""
    entries = entries_of(document.content)
    entries += [Entry(key, text, source=f"--{key}", shown=text) for key, text in (overrides or {}).items()]
    entries = _without_unset(entries)

    def place(key: str, value: object, allowed: str) -> Problem:
        plain_key = key.removeprefix("--")
        if key.startswith("--") or plain_key in (overrides or {}):
            return Problem(f"--{plain_key}", value, allowed)
        return document.problem(key, value, allowed)

    reading = assemble(entries, place)
    reading.check(place)
    return reading


def _without_unset(entries: list[Entry]) -> list[Entry]:
    """Drops the settings listed as "unset" in our own section: the other sections have them only for sd-scripts."""
    unset = {
        str(key)
        for entry in entries
        if entry.where == OURS and entry.key == "unset" and isinstance(entry.value, list)
        for key in entry.value
    }
    return [
        entry
        for entry in entries
        if not (entry.where == OURS and entry.key == "unset") and (entry.key not in unset or entry.source)
    ]


def settings_from(document: Document, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings of a training TOML, for a run.

    Raises `SettingsError` with every problem: an unknown key (with the most similar known one), a wrong type, a value
    out of range.
    """
    return _usable(document, overrides)[0]


def _usable(document: Document, overrides: Mapping[str, str] | None) -> tuple[Settings, Reading]:
    reading = read_settings(document, overrides)
    problems = []
    for found in reading.keys:
        if found.verdict == UNKNOWN:
            allowed = found.note[:1].lower() + found.note[1:].rstrip(".")
            if found.key.startswith("--"):
                problems.append(Problem(found.key, found.value, allowed))
            else:
                problems.append(document.problem(found.key, found.value, allowed))
    problems += reading.problems
    if problems:
        raise SettingsError(problems)
    return reading.settings(), reading


def load_job(path: Path, dataset_config: Path | None = None, overrides: Mapping[str, str] | None = None) -> JobConfig:
    """A job from a training TOML and the dataset TOML that it names or that is given here. Raises `AtelierError`.

    `JobConfig.notes` says which keys of the file are not supported.
    """
    document = read_document(path)
    settings, reading = _usable(document, overrides)
    named = dataset_config or (find_beside(Path(reading.dataset_config), path) if reading.dataset_config else None)
    datasets: DatasetConfig | None = None
    if named:
        datasets = read_datasets(read_document(named), settings)
        folders_beside(datasets, named)
    job = job_from_settings(settings, datasets)
    job.notes = [*reading.notes, *unsupported(reading)]
    job.extra = reading.extra
    return job


def unsupported(reading: Reading) -> list[str]:
    """A sentence for each key that asks for something that is not supported."""
    return [
        f"{found.key} is not supported: {found.note or training_verdict(found.key).note}"
        for found in reading.keys
        if found.verdict == NOT_SUPPORTED
    ]


def find_beside(path: Path, named_in: Path) -> Path:
    """Finds the file `path`: as written, or beside the file `named_in`, by its path or by its name alone."""
    path = expanded(path)
    for candidate in (path, named_in.parent / path, named_in.parent / path.name):
        if is_file(candidate):
            return candidate
    return path


def folders_beside(datasets: DatasetConfig, named_in: Path) -> None:
    """Looks for folders that do not exist as written beside the file `named_in`, and changes the subsets."""
    for subset in datasets.subsets:
        for key in ("image_dir", "conditioning_data_dir", "metadata_file"):
            text = getattr(subset, key)
            if text and not exists(text) and exists(named_in.parent / text):
                setattr(subset, key, str(named_in.parent / text))
