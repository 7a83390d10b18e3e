"""What a setting may be: its bounds and choices, and settings that contradict each other."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from atelier.config.errors import Problem, SettingsError
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, labelled, options, parse_resolution
from atelier.config.settings.values import HIDDEN


def check_value(declared: Option, value: Any) -> str | None:
    """What would be allowed, as a clause for a `Problem`, when `value` is wrong; None when it is fine."""
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
            return "it must be a finite number"
        if declared.minimum is not None and number < declared.minimum:
            return f"it must be at least {declared.minimum:g}"
        if declared.maximum is not None and number > declared.maximum:
            return f"it must be at most {declared.maximum:g}"
    return None


LARGEST_RANK = 1024
"""Largest rank of a plain LoRA. LyCORIS takes more: a rank beyond the layer's size means its full matrix."""

_OPEN = {"network_module", "lr_scheduler", "sample_sampler"}
"""Settings whose choices are suggestions: other names are checked where they are used."""


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


DROPOUTS = ("dropout", "rank_dropout", "module_dropout")
"""Shares among the network_args."""
BELOW_ONE = "it must be at least 0 and below 1, since at 1 nothing of the adapter is trained"


def _dropouts(settings: Settings) -> list[Problem]:
    """Dropouts that leave nothing to train. What is no number at all is told where the network_args are read."""
    found = []
    if settings.network_dropout is not None and settings.network_dropout >= 1:
        found.append(Problem("network_dropout", settings.network_dropout, BELOW_ONE))
    for pair in settings.network_args:
        key, _, text = pair.partition("=")
        try:
            share = float(text)
        except ValueError:
            continue
        if key.strip() in DROPOUTS and not 0 <= share < 1:
            found.append(Problem("network_args", pair, BELOW_ONE))
    return found


def _webhook_problem(url: str | None) -> str | None:
    """What would be allowed, as a clause; None for an address that can be used, and for none."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
        return "write an address that begins with https:// or http://"
    return "leave out the name and password before the @" if "@" in parts.netloc else None


def _contradictions(settings: Settings) -> list[Problem]:
    found = []
    try:
        width, height = parse_resolution(settings.resolution)
        if not (8 <= width <= 8192 and 8 <= height <= 8192):
            found.append(
                Problem("resolution", settings.resolution, "width and height must be between 8 and 8192 pixels")
            )
    except ValueError:
        found.append(Problem("resolution", settings.resolution, "write one side (512) or WIDTH,HEIGHT (512,768)"))
    if settings.lr_scheduler == "constant" and settings.lr_warmup_steps and not settings.lr_scheduler_type:
        allowed = "the schedule constant has no warm-up: set this to 0, or choose constant_with_warmup"
        found.append(Problem("lr_warmup_steps", settings.lr_warmup_steps, allowed))
    if settings.enable_bucket and settings.min_bucket_reso > settings.max_bucket_reso:
        allowed = f"it must not exceed {labelled('max_bucket_reso')}"
        found.append(Problem("min_bucket_reso", settings.min_bucket_reso, allowed))
    if settings.network_module == "networks.lora":
        for key in ("network_dim", "conv_dim"):
            if (getattr(settings, key) or 0) > LARGEST_RANK:
                found.append(Problem(key, getattr(settings, key), f"it must be at most {LARGEST_RANK}"))
    webhook = _webhook_problem(settings.webhook_url)
    if webhook:
        found.append(Problem("webhook_url", HIDDEN, webhook))
    low, high = settings.min_timestep or 0, 1000 if settings.max_timestep is None else settings.max_timestep
    if low >= high:
        found.append(Problem("min_timestep", settings.min_timestep, f"it must be below {labelled('max_timestep')}"))
    found += _dropouts(settings)
    if settings.network_train_unet_only and settings.network_train_text_encoder_only:
        allowed = f"{labelled('network_train_text_encoder_only')} is on too; choose one of the two"
        found.append(Problem("network_train_unet_only", True, allowed))
    if settings.caption_dropout_rate and settings.cache_text_encoder_outputs:
        allowed = (
            f"captions cannot be dropped while {labelled('cache_text_encoder_outputs')} is on; switch one of them off"
        )
        found.append(Problem("caption_dropout_rate", settings.caption_dropout_rate, allowed))
    if settings.dim_from_weights and not settings.network_weights:
        allowed = f"it needs {labelled('network_weights')}, the file to take the ranks from"
        found.append(Problem("dim_from_weights", True, allowed))
    if len(settings.base_weights_multiplier) > len(settings.base_weights):
        allowed = f"there are more weights than files in {labelled('base_weights')}"
        found.append(Problem("base_weights_multiplier", settings.base_weights_multiplier, allowed))
    return found
