"""Reads every TOML that a kohya setup has: training, datasets, both in one, the GUI's, LoRA_Easy_Training_Scripts'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError, few
from atelier.config.imports.easy_scripts import is_easy, without_easy_layout
from atelier.config.imports.imported import (
    BOTH,
    DATASET,
    EASY,
    TRAINING,
    Imported,
    imported,
    with_datasets,
)
from atelier.config.kohya.assemble import training_keys
from atelier.config.kohya.document import Document
from atelier.config.kohya.toml_in import OURS, Overrides, read_settings
from atelier.config.kohya.verdicts import UNKNOWN
from atelier.config.settings.arguments import ARGUMENTS, from_table

DATASET_TABLES = ("general", "datasets")
"""The tables of a dataset TOML. A training TOML may have them beside its settings."""


def from_toml(path: Path, document: Document, overrides: Overrides = None) -> Imported:
    """Settings and datasets of a TOML of sd-scripts or of LoRA_Easy_Training_Scripts. Raises `AtelierError`.

    `path` says where files lie that it names. `overrides`: settings of a command line, which win.
    """
    if not document.content:
        raise AtelierError(f"{path.name} is empty.")
    notes: list[str] = []
    easy = is_easy(document.content)
    if easy:
        content, notes = without_easy_layout(document.content)
        document = Document(document.name, document.text, content)
    content = document.content
    tables = {key: value for key, value in content.items() if key in DATASET_TABLES}
    if not isinstance(content.get("datasets"), (list, Mapping)):
        return training(path, document, overrides)
    rest = {key: value for key, value in content.items() if key not in DATASET_TABLES}
    if not rest and not overrides:
        return with_datasets(Imported(path, DATASET), document, path)
    found = training(path, Document(document.name, document.text, rest), overrides)
    found.kind = EASY if easy else BOTH if rest else DATASET
    found.notes += notes
    return with_datasets(found, Document(document.name, document.text, tables), path)


def training(path: Path, document: Document, overrides: Overrides = None) -> Imported:
    """The settings of a training TOML, and the datasets of the file that it names."""
    document, note = one_level(document)
    reading = read_settings(document, overrides)
    found = imported(path, TRAINING, reading)
    found.notes += note
    own = [key for key in reading.keys if not key.key.startswith("--")]
    if (own or not overrides) and all(key.verdict == UNKNOWN for key in own):
        found.problems.append(f"{path.name} has no key that kohya's sd-scripts know.")
    return found


def one_level(document: Document) -> tuple[Document, list[str]]:
    """Tables inside sections, as some programs write them, taken out; sd-scripts itself would not see into them.

    A table of key = value where a list of KEY=VALUE belongs, such as optimizer_args, becomes that list.
    """
    flat: dict[str, Any] = {}
    deep: list[str] = []
    for key, value in document.content.items():
        if not isinstance(value, Mapping) or key == OURS:
            flat[key] = value
            continue
        if _is_arguments(key, value):
            flat[key] = from_table(value)
            continue
        section: dict[str, Any] = {}
        _take_out(value, key, section, deep)
        flat[key] = section
    if not deep:
        return Document(document.name, document.text, flat), []
    note = f"Tables inside sections were read too ({few(deep)}); sd-scripts would read only one level."
    return Document(document.name, document.text, flat), [note]


def _take_out(table: Mapping[str, Any], name: str, section: dict[str, Any], deep: list[str]) -> None:
    """Adds the values of `table` and of the tables in it to `section`, and the names of the latter to `deep`."""
    for key, value in table.items():
        if not isinstance(value, Mapping):
            section[key] = value
        elif _is_arguments(key, value):
            section[key] = from_table(value)
    for key, value in table.items():
        if isinstance(value, Mapping) and not _is_arguments(key, value):
            deep.append(f"{name}.{key}")
            _take_out(value, f"{name}.{key}", section, deep)


def _is_arguments(key: str, table: Mapping[str, Any]) -> bool:
    """True for a table of arguments; a section may have the same name, but has settings or tables in it."""
    if key not in ARGUMENTS or any(isinstance(value, Mapping) for value in table.values()):
        return False
    return not (set(table) & training_keys())
