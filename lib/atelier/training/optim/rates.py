"""Lower learning rates after a loss that was no number, also in a run that goes on from a state."""

from __future__ import annotations

import torch

LOWER = 0.5
"""What the rates are multiplied with, each time."""
TRIES = 3
"""So often in one stretch of a run; after that something else is wrong, and training ends."""


def scale_rates(optimizer: torch.optim.Optimizer, scheduler: object, factor: float) -> None:
    """Multiplies every rate, now and as the schedule computes it from here on, with `factor`.

    Optimisers that choose their own rate have none to multiply.
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
    """False where the optimiser chooses its rates itself."""
    return all(group["lr"] is not None for group in optimizer.param_groups)
