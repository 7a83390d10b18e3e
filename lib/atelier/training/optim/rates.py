"""Lowers the learning rates after a loss that was NaN, also in a resumed run."""

from __future__ import annotations

import torch

LOWER = 0.5
"""Factor of the learning rates, each time."""
TRIES = 3
"""Most times in one process. After that something else is wrong, and training ends."""


def scale_rates(optimizer: torch.optim.Optimizer, scheduler: object, factor: float) -> None:
    """Multiplies every learning rate by `factor`, now and in the rest of the schedule.

    Optimizers that choose their learning rates themselves are not changed.
    """
    if factor == 1.0:
        return
    for group in optimizer.param_groups:
        for key in ("lr", "initial_lr"):
            if group.get(key) is not None:
                group[key] = group[key] * factor
    for key in ("base_lrs", "_last_lr"):
        rates = getattr(scheduler, key, None)
        if isinstance(rates, list):
            setattr(scheduler, key, [rate if rate is None else rate * factor for rate in rates])


def can_be_lowered(optimizer: torch.optim.Optimizer) -> bool:
    """False when the optimizer chooses its learning rates itself."""
    return all(group["lr"] is not None for group in optimizer.param_groups)
