"""How one setting is declared: a dataclass field that carries its help, its bounds and its place in the tab."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

GROUPS = (
    "Basics",
    "Learning",
    "Network",
    "Pictures",
    "Captions",
    "Samples",
    "Saving",
    "Dreambooth",
    "Text encoder",
    "Memory and precision",
    "Schedule",
    "Noise and loss",
    "Flow models",
    "Validation",
    "Notifications",
    "Description",
)
"""Groups of settings, in the order in which the tab shows them: what is changed most comes first."""

KINDS = ("bool", "int", "float", "str", "int_or_float", "floats", "strs")
"""Types of settings. "floats" and "strs" are lists; "int_or_float" tells 10 (steps) from 0.1 (a fraction of them)."""


@dataclass(frozen=True)
class Option:
    """One setting as the tab, the TOML reader, the validation and the docs see it."""

    key: str
    kind: str
    default: Any
    optional: bool
    """True when the setting may be empty, which is None."""
    group: str
    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    shown: bool = True
    """False for settings that only files and the command line set."""
    ours: bool = False
    """True for the few settings that kohya's scripts do not know."""


def setting(
    default: Any,
    kind: str,
    group: str,
    label: str,
    help: str,
    *,
    optional: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    shown: bool = True,
    ours: bool = False,
) -> Any:
    """A dataclass field of `Settings`. A list as default is copied for each instance."""
    metadata = {
        "kind": kind,
        "optional": optional or default is None,
        "group": group,
        "label": label,
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "shown": shown,
        "ours": ours,
    }
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def option_of(field: dataclasses.Field[Any]) -> Option:
    """The `Option` that a field declares."""
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Option(key=field.name, default=default, **field.metadata)
