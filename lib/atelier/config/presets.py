"""Recommended settings for a first run, by what the pictures show, how many there are, and the model family.

The figures are the field's usual ones. A person or an object: about a hundred steps for each picture, rank 16. A style
has more pictures and fewer steps for each, rank 32. The text encoder has half the UNet's learning rate. In SDXL it is
not trained, since that costs much and brings little.
"""

from __future__ import annotations

from typing import Any

RESOLUTIONS = {"sd1": 512, "sd2": 768, "sdxl": 1024, "z_image": 1024}
TINY = 128
"""A model made for at most this side, in pixels, is a small one for trying things out, such as the demo base."""

_LOOKS = {"person": 100, "object": 100, "style": 60}
"""Steps for each picture, at batch size 1."""
_STEPS = {"person": (800, 2400), "object": (600, 2000), "style": (1200, 4000)}
_RANK = {"person": 16, "object": 16, "style": 32}
_FLOWS = ("z_image",)
"""Families with a flow: every amount of noise counts the same, the text encoder is never trained, and rank 32 with the
same alpha is what other trainers begin with."""
_FAVOURED_STEP = 50
_WHOLE_RATE, _WHOLE_RATE_TINY = 2e-6, 3e-4
"""Learning rates for a whole model: kohya's default, and the one that `run.py demo --dreambooth` uses."""


def preset(
    subject: str,
    picture_count: int,
    family: str,
    resolution: int | None = None,
    whole_model: bool = False,
    steps: int | None = None,
) -> dict[str, Any]:
    """The recommended settings that differ from the defaults, under kohya's names.

    `subject` is "person", "object" or "style"; any other counts as an object. `picture_count` 0 means not known yet.
    `family` is a `models.family.Family.name`. `resolution` is the side in pixels at which the model was trained, when
    it is not the family's usual one. `whole_model`: for Dreambooth, which has far lower learning rates and large files.
    `steps`: of a run that has another number of steps than the recommended one; saves and samples follow it.
    """
    kind = subject if subject in _LOOKS else "object"
    side = resolution or RESOLUTIONS.get(family, 512)
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
        "max_train_steps": steps_for(kind, picture_count),
        # Faces are not symmetric and lettering on an object must not be mirrored. A style loses nothing by mirroring.
        "flip_aug": kind == "style",
        "sample_at_first": True,
    }
    if family == "sdxl":
        values |= {"network_train_unet_only": True, "cache_text_encoder_outputs": True, "text_encoder_lr": []}
    if side <= TINY:
        values |= _tiny(side, picture_count)
    if family in _FLOWS:
        values |= {"network_train_unet_only": True, "text_encoder_lr": [], "min_snr_gamma": None}
        values |= {"network_dim": 32, "network_alpha": 32.0}
        values["bucket_reso_steps"] = max(16, values["bucket_reso_steps"])
    often = rhythm(steps or values["max_train_steps"])
    if whole_model:
        # All weights change at once, so each may change by little. A checkpoint of gigabytes is saved once, at the end.
        values |= {"learning_rate": _WHOLE_RATE if side > TINY else _WHOLE_RATE_TINY}
        return {**values, "sample_every_n_steps": often}
    return {**values, "save_every_n_steps": often, "sample_every_n_steps": often}


def steps_for(subject: str, picture_count: int) -> int:
    """Optimizer steps at batch size 1: a fixed number for each picture, within bounds."""
    least, most = _STEPS[subject]
    return _rounded(min(max(picture_count * _LOOKS[subject], least), most))


def rhythm(steps: int) -> int:
    """After how many steps of a run to save and sample each time: about four times in all, at round numbers."""
    quarter = max(steps // 4, 1)
    favoured = _FAVOURED_STEP if quarter > _FAVOURED_STEP else 5 if quarter > 10 else 1
    return max(round(quarter / favoured), 1) * favoured


def _tiny(side: int, picture_count: int) -> dict[str, Any]:
    """For a base of a few million weights: steps are cheap, and a small rank needs a high learning rate."""
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
