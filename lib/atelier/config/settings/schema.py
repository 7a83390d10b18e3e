"""The one schema of settings, under kohya's names: the tab, TOML, the API, validation and docs all come from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from atelier.config.errors import Problem, SettingsError
from atelier.config.settings.groups.basics import BasicSettings
from atelier.config.settings.groups.network import LearningSettings, NetworkSettings
from atelier.config.settings.groups.objective import ObjectiveSettings
from atelier.config.settings.groups.pictures import CaptionSettings, PictureSettings
from atelier.config.settings.groups.running import DreamboothSettings, RunningSettings
from atelier.config.settings.option import GROUPS, Option, option_of


@dataclass
class Settings(
    DreamboothSettings,
    RunningSettings,
    ObjectiveSettings,
    LearningSettings,
    NetworkSettings,
    CaptionSettings,
    PictureSettings,
    BasicSettings,
):
    """Every setting of a training run. Datasets, which may differ from one another, are in `config.datasets`."""

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)


@lru_cache(maxsize=1)
def options() -> tuple[Option, ...]:
    """Every setting, ordered by group, within a group as declared."""
    found = [option_of(field) for field in dataclasses.fields(Settings)]
    return tuple(sorted(found, key=lambda option: GROUPS.index(option.group)))


def option(key: str) -> Option:
    """The setting named `key`. Raises KeyError when there is none."""
    return {found.key: found for found in options()}[key]


def parse_resolution(text: str | int) -> tuple[int, int]:
    """ "512" or "512,768" -> (width, height) in pixels. Raises ValueError."""
    sides = [int(side) for side in str(text).lower().replace("x", ",").split(",")]
    if len(sides) == 1:
        sides *= 2
    if len(sides) != 2:
        raise ValueError(text)
    return sides[0], sides[1]


def check_value(declared: Option, value: Any) -> str | None:
    """What is allowed, when `value` is not; None when it is fine."""
    if value is None:
        return None if declared.optional else "it must be set"
    values = value if isinstance(value, (list, tuple)) else [value]
    if declared.choices and not declared.optional and str(value) not in declared.choices and declared.key not in _OPEN:
        return f"it can be {', '.join(declared.choices)}"
    if declared.choices and declared.optional and str(value) not in declared.choices:
        return f"it can be {', '.join(declared.choices)}, or empty"
    for number in values:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if number != number or number in (float("inf"), float("-inf")):
            return "it must be a number"
        if declared.minimum is not None and number < declared.minimum:
            return f"it must be at least {declared.minimum:g}"
        if declared.maximum is not None and number > declared.maximum:
            return f"it must be at most {declared.maximum:g}"
    return None


LARGEST_RANK = 1024
"""Of a plain LoRA. LyCORIS takes more: a rank beyond the layer's size means its full matrix."""

_OPEN = {"network_module", "lr_scheduler", "sample_sampler"}
"""Keys whose choices are suggestions: other names are looked up where they are used."""


def validate(settings: Settings) -> list[Problem]:
    """Every value out of its range, and values that contradict each other."""
    problems = []
    for declared in options():
        value = getattr(settings, declared.key)
        allowed = check_value(declared, value)
        if allowed:
            problems.append(Problem(declared.key, value, allowed))
    return problems + _contradictions(settings)


def check(settings: Settings) -> None:
    """Raises `SettingsError` with every problem, when there is one."""
    problems = validate(settings)
    if problems:
        raise SettingsError(problems)


def _contradictions(settings: Settings) -> list[Problem]:
    found = []
    try:
        width, height = parse_resolution(settings.resolution)
        if not (8 <= width <= 8192 and 8 <= height <= 8192):
            found.append(Problem("resolution", settings.resolution, "its sides must be between 8 and 8192 pixels"))
    except ValueError:
        found.append(Problem("resolution", settings.resolution, "write a side as 512, or WIDTH,HEIGHT as 512,768"))
    if settings.lr_scheduler == "constant" and settings.lr_warmup_steps and not settings.lr_scheduler_type:
        found.append(
            Problem("lr_warmup_steps", settings.lr_warmup_steps, "constant has no warm-up; use constant_with_warmup")
        )
    if settings.enable_bucket and settings.min_bucket_reso > settings.max_bucket_reso:
        found.append(Problem("min_bucket_reso", settings.min_bucket_reso, "it must not exceed max_bucket_reso"))
    if settings.network_module == "networks.lora":
        for key in ("network_dim", "conv_dim"):
            if (getattr(settings, key) or 0) > LARGEST_RANK:
                found.append(Problem(key, getattr(settings, key), f"it must be at most {LARGEST_RANK}"))
    low, high = settings.min_timestep or 0, 1000 if settings.max_timestep is None else settings.max_timestep
    if low >= high:
        found.append(Problem("min_timestep", settings.min_timestep, "it must be below max_timestep"))
    if settings.network_train_unet_only and settings.network_train_text_encoder_only:
        found.append(Problem("network_train_unet_only", True, "network_train_text_encoder_only excludes it; set one"))
    if settings.caption_dropout_rate and settings.cache_text_encoder_outputs:
        found.append(Problem("caption_dropout_rate", settings.caption_dropout_rate, "cached text cannot be dropped"))
    if settings.dim_from_weights and not settings.network_weights:
        found.append(Problem("dim_from_weights", True, "it needs network_weights, the file to take ranks from"))
    if len(settings.base_weights_multiplier) > len(settings.base_weights):
        found.append(
            Problem("base_weights_multiplier", settings.base_weights_multiplier, "there are more than base_weights")
        )
    return found
