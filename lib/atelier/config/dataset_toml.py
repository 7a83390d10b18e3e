"""Dataset TOML: [general], [[datasets]], [[datasets.subsets]], each value inherited from the level above."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atelier.config.datasets import Dataset, DatasetConfig, Subset, dataset_from_settings, subset_from_settings
from atelier.config.errors import Problem, SettingsError
from atelier.config.option import Option
from atelier.config.schema import Settings, parse_resolution
from atelier.config.values import BadValue, coerce, nearest

if TYPE_CHECKING:
    from atelier.config.toml_in import Document

_KINDS = {"bool": "bool", "int": "int", "float": "float", "str": "str", "int | None": "int", "str | None": "str"}
SUBSET_ONLY = {"image_dir", "metadata_file", "is_reg", "conditioning_data_dir", "alpha_mask", "caption_from_name"}
DATASET_KEYS = {item.name for item in dataclasses.fields(Dataset)} - {"subsets"}
SUBSET_KEYS = {item.name for item in dataclasses.fields(Subset)}
_SPECIAL = {"resolution", "custom_attributes", "face_crop_aug_range"}


def read_datasets(document: Document, settings: Settings) -> DatasetConfig:
    """The datasets of a dataset TOML; what it leaves out comes from the training settings.

    Raises `SettingsError` for a key at a level that does not take it, a wrong kind, or a dataset without subsets.
    """
    reader = _Reader(document, settings)
    config = reader.read()
    if reader.problems:
        raise SettingsError(reader.problems)
    return config


class _Reader:
    def __init__(self, document: Document, settings: Settings) -> None:
        self._document = document
        self._settings = settings
        self.problems: list[Problem] = []

    def read(self) -> DatasetConfig:
        content = self._document.content
        for key in content:
            if key not in ("general", "datasets"):
                self._wrong(key, content[key], "a dataset file has [general] and [[datasets]] alone")
        general = self._table(content.get("general", {}), "general", (DATASET_KEYS | SUBSET_KEYS) - SUBSET_ONLY)
        tables = content.get("datasets", [])
        if not isinstance(tables, list) or not tables:
            self._wrong("datasets", tables, "write at least one [[datasets]]")
            return DatasetConfig()
        return DatasetConfig([self._dataset(table, general) for table in tables])

    def _dataset(self, table: Any, general: Mapping[str, Any]) -> Dataset:
        own = dict(table) if isinstance(table, Mapping) else {}
        subsets = own.pop("subsets", [])
        shared = {**general, **self._table(own, "datasets", (DATASET_KEYS | SUBSET_KEYS) - SUBSET_ONLY)}
        dataset = dataset_from_settings(self._settings)
        for key in DATASET_KEYS & set(shared):
            setattr(dataset, key, shared[key])
        if not isinstance(subsets, list) or not subsets:
            self._wrong("subsets", subsets, "a dataset needs at least one [[datasets.subsets]]")
            return dataset
        dataset.subsets = [self._subset(subset, shared) for subset in subsets]
        if len({subset.metadata_file is not None for subset in dataset.subsets}) > 1:
            self._wrong("metadata_file", None, "subsets with and without metadata_file do not mix in one dataset")
        return dataset

    def _subset(self, table: Any, shared: Mapping[str, Any]) -> Subset:
        values = {**shared, **self._table(table, "subsets", SUBSET_KEYS)}
        chosen = {key: value for key, value in values.items() if key in SUBSET_KEYS and value is not None}
        if not chosen.get("image_dir") and not chosen.get("metadata_file"):
            self._wrong("image_dir", None, "a subset needs image_dir, the folder of its pictures")
        return subset_from_settings(self._settings, chosen.pop("image_dir", ""), **chosen)

    def _table(self, table: Any, level: str, allowed: set[str]) -> dict[str, Any]:
        if not isinstance(table, Mapping):
            self._wrong(level, table, "it must be a table")
            return {}
        found = {}
        for key, value in table.items():
            if key not in allowed:
                guess = nearest(key, allowed)
                self._wrong(key, value, f"[{level}] takes no such key" + (f"; did you mean {guess}?" if guess else ""))
                continue
            try:
                found[key] = self._value(key, value)
            except (BadValue, ValueError) as error:
                self._wrong(key, value, str(error) or "this value is not allowed")
        return found

    def _value(self, key: str, value: Any) -> Any:
        if key == "resolution":
            try:
                text = ",".join(str(int(side)) for side in value) if isinstance(value, list) else str(int(value))
                return parse_resolution(text)
            except (TypeError, ValueError) as error:
                raise BadValue("it must be a side, or [width, height], in pixels") from error
        if key in _SPECIAL:
            return value
        owner: Any = Subset if key in SUBSET_KEYS else Dataset
        item = next(item for item in dataclasses.fields(owner) if item.name == key)
        kind = _KINDS[str(item.type)]
        limits = {"minimum": 0.0} if kind in ("int", "float") else {}
        option = Option(key, kind, None, "None" in str(item.type), "", "", "", **limits)  # type: ignore[arg-type]
        found = coerce(option, value)
        if limits and found is not None and found < 0:
            raise BadValue("it must be at least 0")
        if key in ("num_repeats", "batch_size", "bucket_reso_steps") and found < 1:
            raise BadValue("it must be at least 1")
        return found

    def _wrong(self, key: str, value: object, allowed: str) -> None:
        self.problems.append(self._document.problem(key, value, allowed))
