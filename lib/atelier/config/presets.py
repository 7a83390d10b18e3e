"""Good values for a first run: by what the pictures show, how many there are, and the model's family.

The figures are the field's usual ones: about a hundred looks at each picture of a person or an object, fewer at each
picture of a style since there are more; rank 16 for one subject, 32 for a style; a text encoder that learns at half
the UNet's rate, and not at all in SDXL, where it costs much and brings little.
"""

from __future__ import annotations

from typing import Any

RESOLUTIONS = {"sd1": 512, "sd2": 768, "sdxl": 1024}
TINY = 128
"""Sides up to this, in pixels, belong to a model made for trying things out."""

_LOOKS = {"person": 100, "object": 100, "style": 60}
"""Steps for each picture, with one picture a step."""
_STEPS = {"person": (800, 2400), "object": (600, 2000), "style": (1200, 4000)}
_RANK = {"person": 16, "object": 16, "style": 32}
_FAVOURED_STEP = 50
_WHOLE_RATE, _WHOLE_RATE_TINY = 2e-6, 3e-4
"""Of a whole model: kohya's default, and what `run.py demo --dreambooth` learns the demo subject with."""


def preset(
    subject: str, picture_count: int, family: str, resolution: int | None = None, whole_model: bool = False
) -> dict[str, Any]:
    """Settings that differ from the defaults, by kohya's names.

    `subject` is "person", "object" or "style"; any other counts as an object. `picture_count` 0 means not known yet.
    `family` is a `models.family.Family.name`. `resolution` is the side in pixels at which the model was trained, when
    it is not the family's usual one. `whole_model`: for Dreambooth, which has far lower rates and large files.
    """
    kind = subject if subject in _LOOKS else "object"
    side = resolution or RESOLUTIONS.get(family, 512)
    steps = steps_for(kind, picture_count)
    values: dict[str, Any] = {
        "resolution": str(side),
        "enable_bucket": True,
        "min_bucket_reso": side // 2,
        "max_bucket_reso": side * 2,
        "bucket_reso_steps": 64,
        "train_batch_size": 1,
        "network_dim": _RANK[kind],
        "network_alpha": _RANK[kind] / 2,
        "learning_rate": 1e-4,
        "text_encoder_lr": [5e-5],
        "lr_scheduler": "cosine",
        "lr_warmup_steps": 0.05,
        "min_snr_gamma": 5.0,
        "max_train_steps": steps,
        # A face is not symmetric and lettering on an object must not be mirrored; a style loses nothing by it.
        "flip_aug": kind == "style",
        "sample_at_first": True,
    }
    if family == "sdxl":
        values |= {"network_train_unet_only": True, "cache_text_encoder_outputs": True, "text_encoder_lr": []}
    if side <= TINY:
        values |= _tiny(side, picture_count)
    often = max(_rounded(values["max_train_steps"] / 4), 1)
    if whole_model:
        # Every weight moves at once, so each by little; a checkpoint of gigabytes is saved once, at the end.
        values |= {"learning_rate": _WHOLE_RATE if side > TINY else _WHOLE_RATE_TINY}
        return {**values, "sample_every_n_steps": often}
    return {**values, "save_every_n_steps": often, "sample_every_n_steps": often}


def steps_for(subject: str, picture_count: int) -> int:
    """Optimiser steps with one picture each: a number of looks at each picture, within bounds."""
    least, most = _STEPS[subject]
    return _rounded(min(max(picture_count * _LOOKS[subject], least), most))


def _tiny(side: int, picture_count: int) -> dict[str, Any]:
    """For a base of a few million weights: steps cost little, and a small rank needs a large rate to move it."""
    return {
        "bucket_reso_steps": 8,
        "min_bucket_reso": max(side // 2, 16),
        "train_batch_size": min(max(picture_count, 1), 4),
        "network_dim": 8,
        "network_alpha": 8.0,
        "learning_rate": 2e-3,
        "text_encoder_lr": [5e-4],
        "max_train_steps": 300,
    }


def _rounded(steps: float) -> int:
    return max(round(steps / _FAVOURED_STEP), 1) * _FAVOURED_STEP
