"""Reads any file of a kohya setup into settings, with a verdict for every key in it.

Takes sd-scripts training and dataset TOML, kohya_ss GUI presets (JSON), and the metadata of a LoRA file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.datasets import DatasetConfig
from atelier.config.errors import AtelierError, Problem
from atelier.config.files.limits import check_size
from atelier.config.files.paths import exists, expanded, is_file, is_folder
from atelier.config.imports.gui_preset import looks_like_preset, translate
from atelier.config.imports.lora_metadata import read_header, tell
from atelier.config.job import JobConfig, job_from_dict, job_from_settings
from atelier.config.kohya.assemble import Entry, Reading, assemble
from atelier.config.kohya.dataset_toml import DatasetReader
from atelier.config.kohya.document import Document, parse_document, read_text
from atelier.config.kohya.toml_in import OURS, entries_of, find_beside, folders_beside, read_settings
from atelier.config.kohya.verdicts import UNKNOWN, KeyVerdict
from atelier.config.settings.schema import Settings
from atelier.config.settings.values import plain

TRAINING, DATASET, BOTH = "sd-scripts training TOML", "sd-scripts dataset TOML", "training and dataset TOML in one"
PRESET, GUI_TOML, LORA, JOB = "kohya_ss GUI preset", "kohya_ss GUI config", "LoRA file", "Atelier job"
_GUI_NAMES = {"epoch", "lr_warmup", "max_resolution", "optimizer", "LoRA_type", "noise_offset_type"}
"""Names that occur in the GUI's own config.toml and in no training TOML."""


@dataclass
class Imported:
    """A file that was read. `problems` forbid using it; `notes` are sentences for the person.

    `settings` are complete: what the file leaves out has kohya's default. `values` are only those that the file sets.
    `datasets` is None when the file has none. `extra`: sd-scripts' keys without a setting here.
    """

    path: Path
    kind: str
    settings: Settings = field(default_factory=Settings)
    values: dict[str, Any] = field(default_factory=dict)
    datasets: DatasetConfig | None = None
    keys: list[KeyVerdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """True when the file has no problems."""
        return not self.problems

    def job(self) -> JobConfig:
        """The job that the file describes; without datasets when it names no pictures. Raises `AtelierError`."""
        if self.problems:
            raise AtelierError("\n".join(self.problems))
        if self.datasets is None and not self.settings.train_data_dir:
            job = JobConfig(self.settings, DatasetConfig(), notes=list(self.notes))
        else:
            job = job_from_settings(self.settings, self.datasets)
            job.notes = list(self.notes)
        job.extra = dict(self.extra)
        return job


def read_any(path: Path) -> Imported:
    """Reads a file of any supported kind. Raises `AtelierError` for other files and for broken ones."""
    path = expanded(path)
    if not exists(path):
        raise AtelierError(f"There is no file {path}.")
    if path.is_dir():
        raise AtelierError(f"{path} is a folder; give a TOML, a JSON preset or a LoRA file.")
    if path.suffix.lower() == ".safetensors":
        return _from_lora(path)
    text = read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        return _from_json(path, text)
    return _from_toml(path, parse_document(text, path.name))


def import_report(path: str | Path) -> dict[str, Any]:
    """The result of `read_any` as plain data for JSON. A file that cannot be read is reported, not raised.

    Keys: file, kind ("" if none), usable, keys (each with key, where, value, verdict, note), problems, notes, settings
    (only those that the file sets) and datasets (a summary of each).
    """
    try:
        found = read_any(Path(path))
    except AtelierError as error:
        return {
            "file": str(path), "kind": "", "usable": False, "keys": [], "problems": [str(error)], "notes": [],
            "settings": {}, "datasets": [],
        }  # fmt: skip
    datasets = found.datasets.datasets if found.datasets else []
    return {
        "file": str(path),
        "kind": found.kind,
        "usable": found.usable,
        "keys": [key.as_dict() for key in found.keys],
        "problems": found.problems,
        "notes": found.notes,
        "settings": plain(found.values),
        "datasets": [
            {
                "resolution": list(dataset.resolution),
                "batch_size": dataset.batch_size,
                "subsets": [{"folder": item.image_dir, "repeats": item.num_repeats} for item in dataset.subsets],
            }
            for dataset in datasets
        ],
    }


def _from_toml(path: Path, document: Document) -> Imported:
    content = document.content
    if not content:
        raise AtelierError(f"{path.name} is empty.")
    flat = {entry.key: entry.value for entry in entries_of(_one_level(document)[0].content)}
    if len(_GUI_NAMES & set(flat)) >= 3 and "network_module" not in flat:
        return _preset(path, GUI_TOML, flat)
    tables = content.get("datasets")
    if not isinstance(tables, (list, Mapping)):
        return _training(path, document)
    rest = {key: value for key, value in content.items() if key not in ("general", "datasets")}
    if not rest:
        return _with_datasets(Imported(path, DATASET), document, path)
    training = _training(path, Document(document.name, document.text, rest))
    training.kind = BOTH
    alone = {key: value for key, value in content.items() if key in ("general", "datasets")}
    return _with_datasets(training, Document(document.name, document.text, alone), path)


def _training(path: Path, document: Document) -> Imported:
    document, note = _one_level(document)
    reading = read_settings(document)
    found = _imported(path, TRAINING, reading)
    found.notes += note
    if all(key.verdict == UNKNOWN for key in reading.keys):
        found.problems.append(f"{path.name} has no key that kohya's sd-scripts know.")
    _named_datasets(found, reading)
    return found


def _one_level(document: Document) -> tuple[Document, list[str]]:
    """Tables inside sections, as some programs write them, taken out; sd-scripts itself would not see into them."""
    flat: dict[str, Any] = {}
    deep: list[str] = []
    for key, value in document.content.items():
        if not isinstance(value, Mapping) or key == OURS:
            flat[key] = value
            continue
        section = dict(value)
        while any(isinstance(item, Mapping) for item in section.values()):
            inner = {name: item for name, item in section.items() if isinstance(item, Mapping)}
            deep += [f"{key}.{name}" for name in inner]
            section = {name: item for name, item in section.items() if name not in inner}
            for item in inner.values():
                section.update(item)
        flat[key] = section
    if not deep:
        return document, []
    note = f"Tables inside sections were read too ({', '.join(deep)}); sd-scripts would read only one level."
    return Document(document.name, document.text, flat), [note]


def _named_datasets(found: Imported, reading: Reading) -> None:
    """Reads the dataset TOML that a file names, if it exists."""
    if not reading.dataset_config:
        return
    named = find_beside(Path(reading.dataset_config), found.path)
    if not is_file(named):
        found.notes.append(
            f"There is no dataset file {reading.dataset_config}. Choose the folder of pictures yourself."
        )
        return
    try:
        document = parse_document(read_text(named), named.name)
    except AtelierError as error:
        found.problems.append(str(error))
        return
    _with_datasets(found, document, named)


def _with_datasets(found: Imported, document: Document, path: Path) -> Imported:
    reader = DatasetReader(document, found.settings)
    found.datasets = reader.read()
    folders_beside(found.datasets, path)
    found.keys += reader.keys
    found.problems += [str(problem) for problem in reader.problems]
    found.notes += reader.notes
    for folder in dict.fromkeys(subset.image_dir for subset in found.datasets.subsets):
        if folder and not is_folder(folder):
            found.notes.append(f"The folder {folder} is not on this machine. Choose your folder before training.")
    return found


def _from_json(path: Path, text: str) -> Imported:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AtelierError(f"{path.name} is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise AtelierError(f"{path.name} holds no settings: a preset must be an object of names and values.")
    describes = bool(data) and all(isinstance(entry, Mapping) for entry in data.values())
    if not describes:
        check_size(data, path.name)
    if {"version", "settings", "datasets"} <= set(data):
        job = job_from_dict(data)
        keys = [KeyVerdict(key, value, "honoured") for key, value in data["settings"].items()]
        return Imported(path, JOB, job.settings, dict(data["settings"]), job.datasets, keys, extra=job.extra)
    if describes or not looks_like_preset(data):
        if describes:
            raise AtelierError(
                f"{path.name} has captions, not settings: name it as in_json, or as metadata_file of a subset."
            )
        raise AtelierError(f"{path.name} holds no settings that kohya's programs know.")
    return _preset(path, PRESET, data)


def _preset(path: Path, kind: str, data: Mapping[str, Any]) -> Imported:
    translated = translate(data)
    found = _through_gui_names(path, kind, translated.entries, translated.keys, list(data))
    found.problems = [*translated.problems, *found.problems]
    found.notes = [*translated.notes, *found.notes]
    return found


def _from_lora(path: Path) -> Imported:
    header = read_header(path)
    stated = tell(header)
    found = _through_gui_names(path, LORA, stated.entries, stated.keys, list(header.metadata))
    found.notes = [*stated.notes, "The file does not say where the pictures are. Choose your own folder.", *found.notes]
    return found


def _through_gui_names(
    path: Path, kind: str, entries: list[Entry], keys: Mapping[str, KeyVerdict], order: list[str]
) -> Imported:
    """Assembles entries whose keys have other names in the file. The verdicts come in the order of the file."""
    place = _placer(path)
    reading = assemble(entries, place)
    reading.check(place)
    found = _imported(path, kind, reading)
    by_key: dict[str, list[KeyVerdict]] = {}
    for verdict in [*keys.values(), *found.keys]:
        by_key.setdefault(verdict.key, []).append(verdict)
    found.keys = [verdict for key in order for verdict in by_key.pop(key, [])[:1]]
    found.keys += [verdict for rest in by_key.values() for verdict in rest]
    _named_datasets(found, reading)
    return found


def _imported(path: Path, kind: str, reading: Reading) -> Imported:
    return Imported(
        path,
        kind,
        reading.settings(),
        dict(reading.values),
        keys=list(reading.keys),
        problems=[str(problem) for problem in reading.problems],
        notes=list(reading.notes),
        extra=dict(reading.extra),
    )


def _placer(path: Path) -> Callable[[str, object, str], Problem]:
    return lambda key, value, allowed: Problem(key, value, allowed, path.name)
