"""Optimizers that find a common step size for all weights (Prodigy, D-Adaptation) and so need one learning rate.

Some of them raise at the first step when their groups have different learning rates, others use that of the first group
for all without a word. Both are found by trying the class on a few numbers, whatever its name is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from atelier.config.errors import AtelierError, few
from atelier.config.kohya.network_args import NETWORK_ARGS
from atelier.config.settings.schema import labelled
from atelier.training.optim.update import EACH_FOR_ITSELF

STEPS = 3
"""Steps of the trial. Some optimizers change nothing in their first."""


def check_one_rate(
    name: str, cls: Any, arguments: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> None:
    """Raises `AtelierError` when `groups` have different learning rates and the optimizer needs one for all.

    `name` is kohya's name of the class `cls`; `keys` are the settings with the learning rates, for the sentence. Groups
    without a learning rate, as Adafactor has them, are fine.
    """
    parts: dict[float, list[str]] = {}
    for group in groups:
        if group.get("lr"):
            parts.setdefault(float(group["lr"]), []).append(str(group.get("name", "a group")))
    if len(parts) < 2 or name.lower() in EACH_FOR_ITSELF or not wants_one_rate(cls, arguments, min(parts), max(parts)):
        return
    each = few((f"{rate:g} for {few(names)}" for rate, names in parts.items()), 4)
    raise AtelierError(
        f"{labelled('optimizer_type')}: {name} needs one learning rate for all weights, and this run has "
        f"{len(parts)}: {each}. {_cure([name for names in parts.values() for name in names], keys)}"
    )


def wants_one_rate(cls: Any, arguments: Mapping[str, Any], low: float, high: float) -> bool:
    """True when two groups with the learning rates `low` and `high` cannot be stepped, or are stepped alike."""
    moved = _moved(cls, arguments, (low, high))
    if moved is None:
        return _moved(cls, arguments, (high, high)) is not None
    first, second = moved
    return bool(first.any()) and torch.equal(first, second)


def _moved(cls: Any, arguments: Mapping[str, Any], rates: Sequence[float]) -> list[torch.Tensor] | None:
    """How far equal weights with equal gradients move, one for each rate; None when the optimizer fails."""
    start = torch.linspace(-1.0, 1.0, 16).view(4, 4)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        weights = [nn.Parameter(start.clone()) for _ in rates]
        groups = [{"params": [weight], "lr": rate} for weight, rate in zip(weights, rates)]
        try:
            optimizer = cls(groups, lr=max(rates), **arguments)
            if callable(getattr(optimizer, "train", None)):  # schedule-free
                optimizer.train()
            for _ in range(STEPS):
                for weight in weights:
                    weight.grad = start + 0.5
                optimizer.step()
        except Exception:  # noqa: BLE001 - a class of any package may be named, and the run itself will tell
            return None
    return [weight.detach() - start for weight in weights]


def _cure(parts: Sequence[str], keys: Sequence[str]) -> str:
    """What to change, by the names of the groups."""
    *others, last = (labelled(key) for key in keys)
    sentences = [f"Give {', '.join(others)} and {last} the same value, or leave them empty."]
    if any(part.endswith(" up") for part in parts):
        sentences.append(f"Leave loraplus_lr_ratio and its kin out of {NETWORK_ARGS}.")
    if any(" block " in part for part in parts):
        sentences.append(f"Leave down_lr_weight, mid_lr_weight and up_lr_weight out of {NETWORK_ARGS}.")
    if any("_block_" in part for part in parts):
        sentences.append(f"Leave {labelled('block_lr')} empty.")
    return " ".join(sentences)
