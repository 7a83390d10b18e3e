"""Reads another program's settings whose keys have plain counterparts here, key by key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atelier.config.kohya.assemble import Entry
from atelier.config.kohya.verdicts import HONOURED, NOT_SUPPORTED, WITHOUT_EFFECT, KeyVerdict
from atelier.config.settings.values import HIDDEN

Convert = Callable[[Any], Any]
"""From the program's value to sd-scripts'; None leaves the setting unset."""

ELSEWHERE: tuple[str, Convert | None] = ("", None)
"""Stands for a key, mostly a table, that a reader takes apart itself."""


@dataclass
class Plain:
    """Entries under sd-scripts' names, verdicts of keys that have none, and sentences for the person."""

    entries: list[Entry] = field(default_factory=list)
    keys: dict[str, KeyVerdict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, data: Mapping[str, Any], names: Mapping[str, tuple[str, Convert | None]], program: str) -> None:
        """Reads the keys of `names` (key -> setting, conversion), and gives every other key of `data` a verdict."""
        for key, value in data.items():
            if key not in names:
                note = f"A key of {program} that is not read."
                self.keys[key] = KeyVerdict(key, value, WITHOUT_EFFECT if _off(value) else NOT_SUPPORTED, note)
                continue
            if names[key] == ELSEWHERE:
                self.keys[key] = KeyVerdict(key, value, HONOURED)
                continue
            setting, convert = names[key]
            meant = convert(value) if convert is not None else value
            if meant is None or meant == "":
                self.keys[key] = KeyVerdict(key, value, HONOURED, "Not set.")
            else:
                self.entries.append(Entry(setting, meant, source=key, shown=value, note=f"Read as {setting}."))

    def rest(self, data: Mapping[str, Any], name: str, read: Collection[str], program: str) -> None:
        """Gives each key of the table `name` a verdict that is set and not among `read`, so that none is lost."""
        table = data.get(name)
        for key, value in table.items() if isinstance(table, Mapping) else ():
            if key not in read and not _off(value):
                full = f"{name}.{key}"
                self.keys[full] = KeyVerdict(full, value, NOT_SUPPORTED, f"A key of {program} that is not read.")

    def leave(self, data: Mapping[str, Any], keys: Iterable[str], note: str) -> None:
        """Gives keys that change nothing of what is learnt their verdict; after `take`."""
        for key in keys:
            if key in data:
                value = HIDDEN if key in _PRIVATE and not _off(data[key]) else data[key]
                self.keys[key] = KeyVerdict(key, value, WITHOUT_EFFECT, note)

    def add(self, key: str, value: Any) -> None:
        """A setting that follows from others and has no key of its own in the file."""
        if value is not None and value != "":
            self.entries.append(Entry(key, value, silent=True))


_PRIVATE = ("secrets", "cloud")
"""Tables with tokens and passwords in them."""


def _off(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("", "none", "0", "0.0", "false", "off", "never")
    return value in (None, False, 0) or value == [] or value == {}


def by_name(names: Mapping[str, str]) -> Convert:
    """A conversion of names, whatever their case and the signs between their words; others stay as they are."""
    known = {_bare(key): meant for key, meant in names.items()}
    return lambda value: known.get(_bare(str(value)), value)


def _bare(text: str) -> str:
    return text.lower().replace("_", "").replace("-", "").replace(" ", "")


PRECISION = by_name({
    "fp16": "fp16", "float16": "fp16", "half": "fp16", "bf16": "bf16", "bfloat16": "bf16", "fp32": "no",
    "float32": "no", "tfloat32": "no", "float": "no",
})  # fmt: skip
OPTIMIZERS = by_name({
    "adamw": "AdamW", "adamw8bit": "AdamW8bit", "adamw_optimi": "AdamW", "adam": "AdamW", "adafactor": "AdaFactor",
    "lion": "Lion", "lion8bit": "Lion8bit", "prodigy": "Prodigy", "prodigy_plus_schedule_free": "Prodigy",
    "sgd": "SGDNesterov", "sgd8bit": "SGDNesterov8bit", "dadaptadam": "DAdaptAdam", "dadaptation": "DAdaptation",
    "dadapt_sgd": "DAdaptSGD", "dadapt_lion": "DAdaptLion", "dadaptadamw": "DAdaptation",
})  # fmt: skip
SCHEDULES = by_name({
    "constant": "constant", "constant_with_warmup": "constant_with_warmup", "linear": "linear", "cosine": "cosine",
    "cosine_with_restarts": "cosine_with_restarts", "cosine_with_hard_restarts": "cosine_with_restarts",
    "polynomial": "polynomial", "cosine_annealing": "cosine", "cosine_annealing_with_restarts": "cosine_with_restarts",
})  # fmt: skip


def size(value: Any) -> str | None:
    """A side, or "WIDTHxHEIGHT"; the first of several sizes."""
    text = str(value).replace("[", "").replace("]", "").strip()
    first = text.split(",")[0].strip() if "x" not in text.lower() else text
    return first or None


def number_above_zero(value: Any) -> Any:
    """None for 0 and below, which say "not set" in several programs."""
    try:
        return value if float(value) > 0 else None
    except (TypeError, ValueError):
        return None


def not_negative(value: Any) -> Any:
    """None for -1 and the like, which say "at random"."""
    try:
        return value if float(value) >= 0 else None
    except (TypeError, ValueError):
        return None
