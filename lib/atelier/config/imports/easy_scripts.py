"""The layout of LoRA_Easy_Training_Scripts: subsets on top, and in every section a table args and a table dataset_args.

Source: https://github.com/derrian-distro/LoRA_Easy_Training_Scripts, the TOML files that its interface saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atelier.config.kohya.dataset_toml import INHERITED, RENAMED, SUBSET_KEYS

_TO_SETTINGS = {new: old for old, new in RENAMED.items()}
"""A dataset's names of settings that are called otherwise in a training file."""
_SECTION_TABLES = ("args", "dataset_args")


def is_easy(content: Mapping[str, Any]) -> bool:
    """True for a file with subsets on top, or with sections that have the program's two tables."""
    if "datasets" in content:
        return False
    if isinstance(content.get("subsets"), list):
        return True
    sections = [value for value in content.values() if isinstance(value, Mapping)]
    return any(isinstance(section.get("dataset_args"), Mapping) for section in sections)


def without_easy_layout(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same as a training TOML with its datasets in it, and sentences about what cannot be said there."""
    notes: list[str] = []
    found: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for key, section in content.items():
        if key == "subsets":
            continue
        if not isinstance(section, Mapping):
            found[key] = section
            continue
        kept = dict(section)
        for name, value in dict(section.get("dataset_args") or {}).items():
            if name in INHERITED:
                shared[name] = value
            else:
                kept[name] = value
        kept.pop("dataset_args", None)
        found[key] = _renamed(kept)
    if shared:
        found["dataset_args"] = {_TO_SETTINGS.get(name, name): value for name, value in shared.items()}
    subsets = content.get("subsets")
    if isinstance(subsets, list):
        read = [_subset(subset, notes) for subset in subsets if isinstance(subset, Mapping)]
        found["datasets"] = [{**shared, "subsets": read}]
    _module(found)
    return found, list(dict.fromkeys(notes))


def _renamed(section: Mapping[str, Any]) -> dict[str, Any]:
    """warmup_ratio, which is a part of the run, as sd-scripts writes it."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping) and key in _SECTION_TABLES:
            value = _renamed(value)
        if key == "warmup_ratio" and isinstance(value, (int, float)) and not isinstance(value, bool):
            key, value = "lr_warmup_steps", float(value)
        found[key] = value
    return found


def _subset(subset: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    for key in subset:
        if key not in SUBSET_KEYS and key != "name":
            notes.append(f"{key} of a subset is not a key of sd-scripts and is ignored.")
    return {key: value for key, value in subset.items() if key in SUBSET_KEYS}


def _module(found: dict[str, Any]) -> None:
    """The program chooses network_module by the arguments: LyCORIS for those with an algo."""
    section = found.get("network_args")
    args = section.get("args") if isinstance(section, Mapping) else None
    if not isinstance(args, Mapping) or "network_module" in args:
        return
    arguments = args.get("network_args")
    algo = isinstance(arguments, Mapping) and "algo" in arguments
    unit = isinstance(arguments, Mapping) and "unit" in arguments
    module = "lycoris.kohya" if algo else "networks.dylora" if unit else "networks.lora"
    found["network_args"] = {**found["network_args"], "args": {**args, "network_module": module}}
