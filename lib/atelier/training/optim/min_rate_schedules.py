"""Two schedules of transformers 4.40 and 4.42, for WebUIs with an older version; the factors are the same."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from atelier.config.settings.schema import labelled


def cosine_with_min_lr(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr_rate: float | None = None,
) -> LambdaLR:
    """Half a cosine from the full learning rate down to the fraction `min_lr_rate`, after a linear warm-up.

    Raises ValueError without `min_lr_rate`, as transformers does.
    """
    if min_lr_rate is None:
        raise ValueError(f"it needs {labelled('lr_scheduler_min_lr_ratio')}")
    low = min_lr_rate

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        return _falling((step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps), num_cycles, low)

    return LambdaLR(optimizer, factor)


def warmup_stable_decay(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_stable_steps: int,
    num_decay_steps: int,
    num_cycles: float = 0.5,
    min_lr_ratio: float = 0.0,
) -> LambdaLR:
    """A linear warm-up, the full learning rate, and half a cosine down to the fraction `min_lr_ratio`."""

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps) * (1.0 - min_lr_ratio) + min_lr_ratio
        after = step - num_warmup_steps - num_stable_steps
        if after < 0:
            return 1.0
        return _falling(after / num_decay_steps, num_cycles, min_lr_ratio) if after < num_decay_steps else min_lr_ratio

    return LambdaLR(optimizer, factor)


def _falling(progress: float, cycles: float, low: float) -> float:
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress)) * (1.0 - low) + low)
