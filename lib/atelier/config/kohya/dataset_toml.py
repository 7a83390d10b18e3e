"""Reads dataset TOML: [general], [[datasets]], [[datasets.subsets]]; each level inherits from the one above."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from atelier.config.datasets import Dataset, DatasetConfig, Subset, dataset_from_settings, subset_from_settings
from atelier.config.errors import Problem, SettingsError
from atelier.config.kohya.document import Document
from atelier.config.kohya.verdicts import UNKNOWN, WRONG, KeyVerdict, dataset_verdict, for_value
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, option, parse_resolution
from atelier.config.settings.values import BadValue, coerce, nearest

_KINDS = {
    "bool": "bool", "int": "int", "float": "float", "str": "str", "int | None": "int", "str | None": "str",
}  # fmt: skip
SUBSET_ONLY = {"image_dir", "metadata_file", "is_reg", "conditioning_data_dir", "alpha_mask", "caption_from_name",
               "loss_weight"}  # fmt: skip
DATASET_KEYS = {item.name for item in dataclasses.fields(Dataset)} - {"subsets"}
SUBSET_KEYS = {item.name for item in dataclasses.fields(Subset)}
INHERITED = (DATASET_KEYS | SUBSET_KEYS) - SUBSET_ONLY
"""Keys that [general] and a dataset may have. A key of subsets holds for all subsets below."""
OURS = "atelier"
"""Table in custom_attributes for what sd-scripts' keys cannot say. sd-scripts keeps it without reading it."""
COMPLETE = "complete"
"""Key in that table of [general]: the file has every value, and nothing is inherited from the training settings."""
RENAMED = {"train_batch_size": "batch_size", "dataset_repeats": "num_repeats"}


def read_datasets(document: Document, settings: Settings) -> DatasetConfig:
    """The datasets of a dataset TOML. Values that it leaves out come from the training settings.

    Raises `SettingsError` for a key at a level that cannot have it, a wrong type, or a dataset without subsets.
    """
    reader = DatasetReader(document, settings)
    config = reader.read()
    if reader.problems:
        raise SettingsError(reader.problems)
    return config


class DatasetReader:
    """Reads one document. `problems` forbid using it; `keys` has the verdict of every key in it."""

    def __init__(self, document: Document, settings: Settings) -> None:
        self._document = document
        self._settings = settings
        self._seen: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.keys: list[KeyVerdict] = []
        self.notes: list[str] = []

    def read(self) -> DatasetConfig:
        content = self._document.content
        general = self._table(content.get("general", {}), "general", INHERITED)
        attributes = general.get("custom_attributes", {})
        if isinstance(attributes.get(OURS), Mapping) and attributes[OURS].get(COMPLETE):
            self._settings = Settings()
            general["custom_attributes"] = {key: value for key, value in attributes.items() if key != OURS}
        tables = content.get("datasets", [])
        for key, value in content.items():
            if key not in ("general", "datasets"):
                self._wrong(key, value, "a dataset file has only [general] and [[datasets]]")
                self.keys.append(KeyVerdict(key, value, UNKNOWN, "A dataset file has no such table."))
        if isinstance(tables, Mapping):
            tables = [tables]
        if not isinstance(tables, list) or not tables:
            self._wrong("datasets", tables, "at least one [[datasets]] is needed")
            return DatasetConfig()
        return DatasetConfig([self._dataset(table, general, index) for index, table in enumerate(tables)])

    def _dataset(self, table: Any, general: Mapping[str, Any], index: int) -> Dataset:
        where = f"datasets[{index}]"
        own = dict(table) if isinstance(table, Mapping) else {}
        subsets = own.pop("subsets", [])
        shared = {**general, **self._table(own, where, INHERITED)}
        dataset = dataset_from_settings(self._settings)
        for key in DATASET_KEYS & set(shared):
            setattr(dataset, key, shared[key])
        if isinstance(subsets, Mapping):
            subsets = [subsets]
        if not isinstance(subsets, list) or not subsets:
            self._wrong("subsets", subsets, "a dataset needs at least one [[datasets.subsets]]")
            return dataset
        read = [self._subset(subset, shared, f"{where}.subsets[{number}]") for number, subset in enumerate(subsets)]
        dataset.subsets = read  # the scan says of a subset with num_repeats 0 that it is not used
        if any(subset.num_repeats < 1 for subset in read):
            self.notes.append(f"{where}: a subset with num_repeats 0 is not used.")
        for key in ("metadata_file", "conditioning_data_dir"):
            if len({getattr(subset, key) is not None for subset in read}) > 1:
                self._wrong(key, None, "either all subsets of a dataset have it or none; make two datasets")
        return dataset

    def _subset(self, table: Any, shared: Mapping[str, Any], where: str) -> Subset:
        own = self._table(table, where, SUBSET_KEYS)
        chosen = {key: value for key, value in {**shared, **own}.items() if key in SUBSET_KEYS}
        if not chosen.get("image_dir") and not chosen.get("metadata_file"):
            self._wrong("image_dir", None, "a subset needs image_dir, the folder of its pictures")
        subset = subset_from_settings(self._settings, chosen.pop("image_dir", None) or "", **chosen)
        try:
            _restore(subset)
        except BadValue as error:
            self._wrong("custom_attributes", subset.custom_attributes, str(error))
        return subset

    def _table(self, table: Any, where: str, allowed: set[str]) -> dict[str, Any]:
        if not isinstance(table, Mapping):
            self._wrong(where, table, "it must be a table")
            return {}
        found = {}
        for key, value in table.items():
            if key not in allowed:
                hint = _misplaced(key, where, allowed)
                self._wrong(key, value, hint)
                self.keys.append(KeyVerdict(key, value, UNKNOWN, hint[:1].upper() + hint[1:] + ".", where))
                continue
            verdict = for_value(dataset_verdict(key), value)
            outcome = KeyVerdict(key, value, verdict.verdict, verdict.note, where)
            try:
                found[key] = convert(key, value)
                if key == "bucket_reso_steps" and found[key] != value and isinstance(value, (int, float)):
                    self.notes.append(f"{where}: {key} {value} is read as {found[key]}, the pixels of one latent cell.")
            except BadValue as error:
                outcome = KeyVerdict(key, value, WRONG, str(error), where)
                self._wrong(key, value, str(error))
            self.keys.append(outcome)
            self._seen[key] = self._seen.get(key, 0) + 1
        return {key: value for key, value in found.items() if value is not None or key in _TO_NOTHING}

    def _wrong(self, key: str, value: object, allowed: str) -> None:
        line = self._document.line_of(key, self._seen.get(key, 0))
        self._seen[key] = self._seen.get(key, 0) + 1
        self.problems.append(Problem(key, value, allowed, self._document.name, line))


_TO_NOTHING = {"caption_prefix", "caption_suffix", "secondary_separator", "class_tokens", "resize_interpolation"}
"""Texts for which "" is a value: it overrides what would be inherited."""


def convert(key: str, value: Any) -> Any:
    """`value` converted to the type of the dataset key. Raises `BadValue`."""
    if key == "resolution":
        try:
            text = ",".join(str(coerce(_as_option("side", "int"), side)) for side in value) if isinstance(value, list) \
                else str(value)  # fmt: skip
            return parse_resolution(text)
        except (TypeError, ValueError) as error:
            raise BadValue("it must be one side or [width, height], in pixels") from error
    if key == "face_crop_aug_range":
        if value is None:
            return None
        numbers = coerce(_as_option(key, "floats"), value)
        if len(numbers) != 2:
            raise BadValue("it must be two numbers")
        return numbers
    if key == "custom_attributes":
        if not isinstance(value, Mapping):
            raise BadValue("it must be a table")
        return dict(value)
    found = coerce(_declared(key), value)
    declared = _declared(key)
    if key == "bucket_reso_steps" and isinstance(found, int) and 0 < found < 8:
        found = 8  # the pixels of one latent cell
    least = declared.minimum
    if least is not None and isinstance(found, (int, float)) and not found >= least:
        raise BadValue(f"it must be at least {least:g}")
    if declared.maximum is not None and isinstance(found, (int, float)) and not found <= declared.maximum:
        raise BadValue(f"it must be at most {declared.maximum:g}")
    if key == "network_multiplier" and not found:
        raise BadValue("nothing would be learned at 0; to leave a subset out, set num_repeats = 0")
    if declared.choices and found is not None and found not in declared.choices:
        raise BadValue(f"it can be {', '.join(declared.choices)}")
    return found


@lru_cache(maxsize=128)
def _declared(key: str) -> Option:
    """The setting of that name, so that both have the same bounds; else an option made from the dataclass field."""
    if key == "loss_weight":
        return _as_option(key, "float", minimum=0, maximum=100)
    if key == "num_repeats":
        return _as_option(key, "int", minimum=0, maximum=1_000_000)
    if key == "batch_size":
        return dataclasses.replace(option("train_batch_size"), key=key)
    try:
        return option(key)
    except KeyError:
        owner: Any = Subset if key in SUBSET_KEYS else Dataset
        item = next(item for item in dataclasses.fields(owner) if item.name == key)
        return _as_option(key, _KINDS[str(item.type)], optional="None" in str(item.type))


def _as_option(key: str, kind: str, optional: bool = False, **limits: float) -> Option:
    return Option(key, kind, None, optional, "", "", "", **limits)  # type: ignore[arg-type]


def _misplaced(key: str, where: str, allowed: set[str]) -> str:
    """What to do with a key in a table that cannot have it, as a clause."""
    if key in RENAMED:
        return f"in a dataset file it is called {RENAMED[key]}"
    if key in SUBSET_KEYS:
        return "it belongs in [[datasets.subsets]]"
    if key in DATASET_KEYS:
        return "it belongs in [[datasets]] or [general]"
    guess = nearest(key, allowed)
    table = "[general]" if where == "general" else "[[datasets.subsets]]" if "subsets" in where else "[[datasets]]"
    return f"{table} has no such key" + (f"; did you mean {guess}?" if guess else "")


def _restore(subset: Subset) -> None:
    """Puts back the values that our export had to write differently for sd-scripts. Raises `BadValue`."""
    ours = subset.custom_attributes.get(OURS)
    if not isinstance(ours, Mapping):
        return
    subset.custom_attributes = {key: value for key, value in subset.custom_attributes.items() if key != OURS}
    for key in (
        "caption_from_name", "loss_weight", "caption_prefix", "keep_tokens", "is_reg", "class_tokens", "alpha_mask"
    ):  # fmt: skip
        if key in ours:
            setattr(subset, key, convert(key, ours[key]))
