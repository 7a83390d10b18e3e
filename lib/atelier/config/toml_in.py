"""Reading kohya's TOML: training settings and datasets, with errors that name file and line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError

from atelier.config.dataset_toml import read_datasets
from atelier.config.datasets import DatasetConfig
from atelier.config.errors import AtelierError, Problem, SettingsError
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.schema import Settings, check, options
from atelier.config.values import BadValue, coerce, nearest

IGNORED_BY_ITSELF = "has no effect here"


@dataclasses.dataclass(frozen=True)
class Document:
    """A parsed TOML file, and its text for looking up lines."""

    name: str
    text: str
    content: dict[str, Any]

    def line_of(self, key: str) -> int | None:
        """The line, from 1, on which `key` is first set."""
        pattern = re.compile(rf'^\s*(?:{re.escape(key)}|"{re.escape(key)}")\s*=')
        return next((number for number, line in enumerate(self.text.splitlines(), 1) if pattern.match(line)), None)

    def problem(self, key: str, value: object, allowed: str) -> Problem:
        return Problem(key, value, allowed, self.name, self.line_of(key))


def read_document(path: Path) -> Document:
    """Parses a TOML file of any line endings, with or without a byte order mark. Raises `AtelierError`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AtelierError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise AtelierError(f"{path.name} is not text in UTF-8; save it as such.") from error
    return parse_document(text, path.name)


def parse_document(text: str, name: str) -> Document:
    """Parses TOML text. Raises `AtelierError` with the line."""
    text = text.replace("\r\n", "\n")
    try:
        content = tomlkit.parse(text).unwrap()
    except ParseError as error:
        raise AtelierError(f"{name} is not valid TOML: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise AtelierError(f"{name} is not valid TOML: {error}.") from error
    return Document(name, text, content)


def flatten(content: Mapping[str, Any]) -> dict[str, Any]:
    """Training TOML has sections whose names mean nothing: one level is taken out."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat.update(value)
        else:
            flat[key] = value
    return flat


def settings_from(
    document: Document, overrides: Mapping[str, str] | None = None, known_elsewhere: frozenset[str] = frozenset()
) -> Settings:
    """Settings of a training TOML; `overrides` (KEY to text, from a command line) win.

    `known_elsewhere` are kohya's keys without a field here, which are passed over. Raises `SettingsError` with every
    problem: a key that nobody knows (and the nearest that is known), a wrong kind, a value out of range.
    """
    declared = {option.key: option for option in options()}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in flatten(document.content).items():
        if key not in declared:
            if key not in known_elsewhere:
                problems.append(document.problem(key, value, _unknown(key, [*declared, *known_elsewhere])))
            continue
        try:
            values[key] = coerce(declared[key], value, from_text=key in ("resolution",))
        except BadValue as error:
            problems.append(document.problem(key, value, str(error)))
    for key, text in (overrides or {}).items():
        if key not in declared:
            if key not in known_elsewhere:
                problems.append(Problem(f"--{key}", text, _unknown(key, [*declared, *known_elsewhere])))
            continue
        try:
            values[key] = coerce(declared[key], text, from_text=True)
        except BadValue as error:
            problems.append(Problem(f"--{key}", text, str(error)))
    if problems:
        raise SettingsError(problems)
    settings = Settings(**values)
    try:
        check(settings)
    except SettingsError as error:
        raise SettingsError(
            [
                document.problem(p.key, p.value, p.allowed) if p.key in flatten(document.content) else p
                for p in error.problems
            ]
        ) from error
    return settings


def load_job(
    path: Path,
    dataset_config: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    known_elsewhere: frozenset[str] = frozenset(),
) -> JobConfig:
    """A job from a training TOML and, if given there or here, a dataset TOML. Raises `AtelierError`."""
    document = read_document(path)
    named = dataset_config or flatten(document.content).get("dataset_config")
    settings = settings_from(document, overrides, known_elsewhere | {"dataset_config", "config_file"})
    datasets: DatasetConfig | None = None
    if named:
        dataset_path = Path(str(named)).expanduser()
        if not dataset_path.is_absolute() and not dataset_path.exists():
            dataset_path = path.parent / dataset_path
        datasets = read_datasets(read_document(dataset_path), settings)
    return job_from_settings(settings, datasets)


def _unknown(key: str, known: list[str]) -> str:
    guess = nearest(key, known)
    return f"there is no such key; did you mean {guess}?" if guess else "there is no such key; take it out"
