"""The settings of A1111 and its kin that change what the model gets of a prompt."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from atelier.hosts.contract import DrawnWith

BOTH_SKIP = (
    'The setting "Clip skip SDXL" is on, which skips layers of one of the two text encoders only. Training cannot do '
    "that: what is learnt differs a little from what this WebUI draws with."
)


def drawn_with(family: str, skipping: Collection[str]) -> DrawnWith:
    """What the WebUI draws with. `skipping`: the families that its "Clip skip" counts for."""
    from modules import shared

    options = shared.opts
    one_only = family == "sdxl" and family not in skipping and getattr(options, "sdxl_clip_l_skip", False) is True
    return DrawnWith(
        clip_skip=_number(getattr(options, "CLIP_stop_at_last_layers", 1)) if family in skipping else 1,
        emphasis=str(getattr(options, "emphasis", "Original")),
        crop=(_number(getattr(options, "sdxl_crop_top", 0)), _number(getattr(options, "sdxl_crop_left", 0))),
        unlike=(BOTH_SKIP,) if one_only else (),
    )


def _number(value: Any) -> int:
    try:
        return int(float(value))
    except (TypeError, ValueError):
        return 0
