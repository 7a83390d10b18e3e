"""Reads kohya's TOML, training settings and datasets, with errors that name the file and the line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.datasets import DatasetConfig
from atelier.config.errors import Problem, SettingsError
from atelier.config.files.paths import exists, expanded, is_file
from atelier.config.kohya.assemble import Entry, Reading, assemble, training_keys
from atelier.config.kohya.document import Document
from atelier.config.settings.schema import Settings, options
from atelier.config.settings.values import LISTS

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
        if isinstance(value, Mapping) and not _is_value(key, value):
            if key == OURS and isinstance(value.get(EXACT), Mapping):
                value = value[EXACT]
            found += [Entry(inner, item, where=key) for inner, item in value.items()]
        else:
            found.append(Entry(key, value))
    return [entry for entry in found if entry.where != OURS] + [entry for entry in found if entry.where == OURS]


Overrides = Mapping[str, "str | list[str]"] | None
"""Settings of a command line by key; a list where several values were given."""


def override_entries(overrides: Overrides) -> list[Entry]:
    """The entries of a command line. Several values of a setting that takes one are one text with spaces in it."""
    lists = {option.key for option in options() if option.kind in LISTS}
    found = []
    for key, given in (overrides or {}).items():
        value = given if isinstance(given, str) or key in lists else " ".join(given)
        found.append(Entry(key, value, source=f"--{key}", shown=value))
    return found


def read_settings(document: Document, overrides: Overrides = None) -> Reading:
    """Reads a training TOML. `overrides` win. Wrong values become problems."""
    entries = _without_unset([*entries_of(document.content), *override_entries(overrides)])

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


def settings_from(document: Document, overrides: Overrides = None) -> Settings:
    """The settings of a training TOML, for a run.

    Raises `SettingsError` with every problem: a wrong type, a value out of range.
    """
    reading = read_settings(document, overrides)
    if reading.problems:
        raise SettingsError(reading.problems)
    return reading.settings()


def _is_value(key: str, table: Mapping[str, Any]) -> bool:
    """True for a table where a setting's value belongs: it is wrong there, and no section of that name."""
    known = training_keys()
    tables = any(isinstance(value, Mapping) for value in table.values())
    return key in known and bool(table) and not tables and not known & set(table)


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
