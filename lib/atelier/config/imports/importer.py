"""Reads any file of a kohya setup into settings, with a verdict for every key in it.

Takes sd-scripts training and dataset TOML, kohya_ss GUI presets (JSON), and the metadata of a LoRA file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.files.limits import check_size
from atelier.config.files.paths import exists, expanded
from atelier.config.imports.gui_preset import looks_like_preset, translate
from atelier.config.imports.imported import GUI_TOML, JOB, LORA, PRESET, Imported, imported, placer, read_named_datasets
from atelier.config.imports.lora_metadata import read_header, tell
from atelier.config.imports.programs.known import Program, program_of, yaml_refusal
from atelier.config.imports.toml_files import from_toml, one_level
from atelier.config.job import job_from_dict
from atelier.config.kohya.assemble import Entry, assemble
from atelier.config.kohya.document import Document, parse_document, read_text
from atelier.config.kohya.toml_in import Overrides, entries_of, override_entries
from atelier.config.kohya.verdicts import KeyVerdict
from atelier.config.settings.values import plain

_GUI_NAMES = {"epoch", "lr_warmup", "max_resolution", "optimizer", "LoRA_type", "noise_offset_type"}
"""Names that occur in the GUI's own config.toml and in no training TOML."""


def read_any(path: Path, overrides: Overrides = None) -> Imported:
    """Reads a file of any supported kind. Raises `AtelierError` for other files and for broken ones.

    `overrides`: settings of a command line by key, which win over the file's.
    """
    path = expanded(path)
    if not exists(path):
        raise AtelierError(f"There is no file {path}.")
    if path.is_dir():
        raise AtelierError(f"{path} is a folder; give a TOML, a JSON preset or a LoRA file.")
    if path.suffix.lower() == ".safetensors":
        found = _from_lora(path, overrides)
        read_named_datasets(found)
        return found
    text = read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        found = _from_json(path, text, overrides)
        read_named_datasets(found)
        return found
    if path.suffix.lower() in (".yaml", ".yml"):
        raise AtelierError(yaml_refusal(path.name, text))
    return read_document(path, parse_document(text, path.name), overrides)


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


def read_document(path: Path, document: Document, overrides: Overrides = None, files: bool = True) -> Imported:
    """Reads a TOML, or settings that came as one, of any supported kind. Raises `AtelierError`.

    `files`: False for a document from somebody who may not have files of this machine read.
    """
    found = _read_document(path, document, overrides, files)
    if files:
        read_named_datasets(found)
    return found


def _read_document(path: Path, document: Document, overrides: Overrides, files: bool) -> Imported:
    program = program_of(document.content)
    if program is not None:
        return _other_program(path, program, document.content, overrides, files)
    flat = {entry.key: entry.value for entry in entries_of(one_level(document)[0].content)}
    if len(_GUI_NAMES & set(flat)) >= 3 and "network_module" not in flat:
        return _preset(path, GUI_TOML, flat, overrides)
    return from_toml(path, document, overrides)


def _from_json(path: Path, text: str, overrides: Overrides) -> Imported:
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
        return _from_job(path, data, overrides)
    program = program_of(data)
    if program is not None:
        return _other_program(path, program, data, overrides, files=True)
    if describes or not looks_like_preset(data):
        if describes and any({"caption", "tags"} & set(entry) for entry in data.values()):
            raise AtelierError(
                f"{path.name} has captions, not settings: name it as in_json, or as metadata_file of a subset."
            )
        raise AtelierError(f"{path.name} holds no settings that kohya's programs know.")
    return _preset(path, PRESET, data, overrides)


def _from_job(path: Path, data: dict[str, Any], overrides: Overrides) -> Imported:
    """The request.json of a run, in which every setting is given."""
    job = job_from_dict(data)
    keys = [KeyVerdict(key, value, "honoured") for key, value in data["settings"].items()]
    found = Imported(path, JOB, job.settings, dict(data["settings"]), job.datasets, keys, extra=job.extra)
    reading = assemble(override_entries(overrides), placer(path))
    reading.values = {**dataclasses.asdict(job.settings), **reading.values}
    reading.check(placer(path))
    changed = imported(path, JOB, reading)
    found.settings, found.values = changed.settings, {**found.values, **changed.values} if overrides else found.values
    found.problems, found.faults = changed.problems, changed.faults
    return found


def _other_program(
    path: Path, program: Program, data: Mapping[str, Any], overrides: Overrides, files: bool
) -> Imported:
    """A file of another program than kohya's, where its keys have plain counterparts here. Raises `AtelierError`."""
    translated = program.translate(path, data, files)
    found = _through_gui_names(path, program.kind, translated.entries, translated.keys, list(data), overrides)
    found.notes = [*translated.notes, *found.notes]
    return found


def _preset(path: Path, kind: str, data: Mapping[str, Any], overrides: Overrides) -> Imported:
    translated = translate(data)
    found = _through_gui_names(path, kind, translated.entries, translated.keys, list(data), overrides)
    found.problems = [*translated.problems, *found.problems]
    found.notes = [*translated.notes, *found.notes]
    return found


def _from_lora(path: Path, overrides: Overrides) -> Imported:
    header = read_header(path)
    stated = tell(header)
    found = _through_gui_names(path, LORA, stated.entries, stated.keys, list(header.metadata), overrides)
    found.notes = [*stated.notes, "The file does not say where the pictures are. Choose your own folder.", *found.notes]
    return found


def _through_gui_names(
    path: Path, kind: str, entries: list[Entry], keys: Mapping[str, KeyVerdict], order: list[str], overrides: Overrides
) -> Imported:
    """Assembles entries whose keys have other names in the file. The verdicts come in the order of the file."""
    place = placer(path)
    reading = assemble([*entries, *override_entries(overrides)], place)
    reading.check(place)
    found = imported(path, kind, reading)
    by_key: dict[str, list[KeyVerdict]] = {}
    for verdict in [*keys.values(), *found.keys]:
        by_key.setdefault(verdict.key, []).append(verdict)
    found.keys = [verdict for key in order for verdict in by_key.pop(key, [])[:1]]
    found.keys += [verdict for rest in by_key.values() for verdict in rest]
    return found
