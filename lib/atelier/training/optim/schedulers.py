"""Learning rate schedules by kohya's names, from diffusers and transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from atelier.config.errors import AtelierError, Problem, SettingsError
from atelier.training.optim.min_rate_schedules import cosine_with_min_lr, warmup_stable_decay
from atelier.training.optim.optimizers import import_class, is_schedule_free, parse_arguments


@dataclass(frozen=True)
class ScheduleOptions:
    """kohya's options. A float in `warmup_steps` or `decay_steps` is a fraction of all steps."""

    name: str = "constant"
    class_path: str = ""
    warmup_steps: int | float = 0
    decay_steps: int | float = 0
    num_cycles: int = 1
    power: float = 1.0
    timescale: int | None = None
    min_lr_ratio: float | None = None
    arguments: list[str] = field(default_factory=list)


def count_steps(value: int | float | None, total: int) -> int:
    """The number of steps for a count (int) or a fraction of `total` (float)."""
    if value is None:
        return 0
    return int(value * total) if isinstance(value, float) else value


def create_scheduler(
    optimizer: torch.optim.Optimizer, options: ScheduleOptions, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule over `total_steps` optimizer steps. Raises `AtelierError` for an unknown name or argument."""
    arguments = parse_arguments(options.arguments)
    if options.class_path:
        path = options.class_path if "." in options.class_path else f"torch.optim.lr_scheduler.{options.class_path}"
        return _call(import_class(path), optimizer, arguments, path)
    if is_schedule_free(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    name = options.name.lower()
    sets_own_rate = any(group["lr"] is None for group in optimizer.param_groups)
    if name.startswith("adafactor") or sets_own_rate:
        from transformers.optimization import AdafactorSchedule

        _, _, initial = name.partition(":")
        return AdafactorSchedule(optimizer, float(initial) if initial and not sets_own_rate else 0.0)
    function = _function(name)
    arguments = {**_named_arguments(name, options, total_steps), **arguments}
    return _call(function, optimizer, arguments, name)


def _named_arguments(name: str, options: ScheduleOptions, total: int) -> dict[str, Any]:
    warmup = count_steps(options.warmup_steps, total)
    decay = count_steps(options.decay_steps, total)
    table: dict[str, dict[str, Any]] = {
        "constant": {},
        "piecewise_constant": {},
        "constant_with_warmup": {"num_warmup_steps": warmup},
        "linear": {"num_warmup_steps": warmup, "num_training_steps": total},
        "cosine": {"num_warmup_steps": warmup, "num_training_steps": total},
        "cosine_with_restarts": {
            "num_warmup_steps": warmup, "num_training_steps": total, "num_cycles": options.num_cycles,
        },
        "polynomial": {"num_warmup_steps": warmup, "num_training_steps": total, "power": options.power},
        "inverse_sqrt": {"num_warmup_steps": warmup, "timescale": options.timescale},
        "cosine_with_min_lr": {
            "num_warmup_steps": warmup, "num_training_steps": total,
            "num_cycles": options.num_cycles / 2, "min_lr_rate": options.min_lr_ratio,
        },
        "warmup_stable_decay": {
            "num_warmup_steps": warmup, "num_stable_steps": total - warmup - decay, "num_decay_steps": decay,
            "num_cycles": options.num_cycles / 2, "min_lr_ratio": options.min_lr_ratio or 0.0,
        },
    }  # fmt: skip
    return table[name]


_FUNCTIONS = {
    "constant": "diffusers.optimization.get_constant_schedule",
    "piecewise_constant": "diffusers.optimization.get_piecewise_constant_schedule",
    "constant_with_warmup": "diffusers.optimization.get_constant_schedule_with_warmup",
    "linear": "diffusers.optimization.get_linear_schedule_with_warmup",
    "cosine": "diffusers.optimization.get_cosine_schedule_with_warmup",
    "cosine_with_restarts": "diffusers.optimization.get_cosine_with_hard_restarts_schedule_with_warmup",
    "polynomial": "diffusers.optimization.get_polynomial_decay_schedule_with_warmup",
    "inverse_sqrt": "transformers.optimization.get_inverse_sqrt_schedule",
    "cosine_with_min_lr": "transformers.optimization.get_cosine_with_min_lr_schedule_with_warmup",
    "warmup_stable_decay": "transformers.optimization.get_wsd_schedule",
}

_FOR_OLDER: dict[str, Callable[..., Any]] = {
    "cosine_with_min_lr": cosine_with_min_lr,
    "warmup_stable_decay": warmup_stable_decay,
}


def _function(name: str) -> Callable[..., Any]:
    if name not in _FUNCTIONS:
        raise SettingsError([Problem("lr_scheduler", name, f"it can be {', '.join(_FUNCTIONS)} or adafactor:RATE")])
    try:
        return import_class(_FUNCTIONS[name])
    except AtelierError as error:
        if name in _FOR_OLDER:
            return _FOR_OLDER[name]
        raise AtelierError(f"The schedule {name} needs a newer version of transformers.") from error


def _call(function: Callable[..., Any], optimizer: torch.optim.Optimizer, arguments: dict[str, Any], name: str) -> Any:
    try:
        return function(optimizer, **arguments)
    except (TypeError, ValueError) as error:
        raise AtelierError(f"The schedule {name} does not accept these arguments: {error}.") from error
