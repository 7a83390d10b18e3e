"""Fills recommended values into controls: they follow the pictures until the person changes a control by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atelier.config.presets import preset
from atelier.config.settings.schema import option, options
from atelier.hosts.contract import ModelInfo
from atelier.ui.fields import from_control, to_control

FROZEN = "*"
"""Marks, in `Reply.filled`, that the controls hold a file's settings and follow no preset until they are reset."""


def suggested(
    subject: str,
    picture_count: int,
    model: ModelInfo | None,
    whole_model: bool = False,
    steps: int | None = None,
) -> dict[str, Any]:
    """The recommended content of the controls, by key. A host's model may have a `side` in pixels.

    `steps`: as in `preset`.
    """
    family = model.family if model is not None and model.family is not None else "sd1"
    values = preset(subject, picture_count, family, getattr(model, "side", None), whole_model, steps)
    return {key: to_control(option(key), value) for key, value in values.items() if option(key).shown}


def steps_by_hand(held: Mapping[str, Any], last: Mapping[str, Any]) -> int | None:
    """The number of steps, if the person has changed it by hand to one that can be used; else None."""
    steps = _entered(held, last, "max_train_steps")
    return int(steps) if steps is not None and steps > 0 else None


def following(held: Mapping[str, Any], last: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`wanted`, where alpha keeps its part of a rank that the person entered."""
    rank = _entered(held, last, "network_dim")
    if not rank or "network_alpha" not in wanted:
        return dict(wanted)
    alpha, usual = option("network_alpha"), float(wanted["network_dim"])
    return {**wanted, alpha.key: to_control(alpha, float(wanted[alpha.key]) * rank / usual)}


def _entered(held: Mapping[str, Any], last: Mapping[str, Any], key: str) -> float | None:
    """The number that the person entered; None where a control follows the recommendation, or holds no number."""
    declared = option(key)
    content = held.get(key)
    if content in (None, last.get(key, to_control(declared, declared.default))):
        return None
    try:
        return float(from_control(declared, content))
    except ValueError:
        return None


def to_fill(held: Mapping[str, Any], last: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The controls to change, by key.

    A control follows the recommendation as long as it holds the value that was filled in last (`last`), or its default
    when nothing was filled in. A control that `wanted` no longer names is reset to its default.
    """
    defaults = {found.key: to_control(found, found.default) for found in options()}
    changes: dict[str, Any] = {}
    for key in [*wanted, *(key for key in last if key not in wanted)]:
        if key not in held:
            continue
        untouched = held[key] == last.get(key, defaults[key])
        value = wanted.get(key, defaults[key])
        if untouched and held[key] != value:
            changes[key] = value
    return changes
