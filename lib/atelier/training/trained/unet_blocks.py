"""The blocks of a UNet by the names of merging tools: TIME, IN00 to IN11, MID, OUT00 to OUT11, END."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atelier.config.errors import AtelierError, Problem, SettingsError, shortened
from atelier.config.settings.schema import labelled

_PLACE = re.compile(r"(up|down)_blocks\.(\d+)\.(resnets|attentions|upsamplers|downsamplers)\.(\d+)")
PARTS = {"down": "IN", "mid": "MID", "up": "OUT", "time": "TIME", "end": "END"}
"""Names of whole parts: down blocks, middle block, up blocks, timestep embedding, and last convolution."""


def block_of(name: str) -> str:
    """The block of a parameter of a diffusers UNet, such as "IN04", counted as in Stable Diffusion's own files.

    A down level has two layers and a third block for its downsampler, an up level has three; SDXL ends at IN08 and
    OUT08.
    """
    if name.startswith("conv_in."):
        return "IN00"
    if name.startswith("mid_block."):
        return "MID"
    if name.startswith(("conv_out.", "conv_norm_out.")):
        return "END"
    place = _PLACE.match(name)
    if place is None:
        return "TIME"
    sampler = place[3] in ("upsamplers", "downsamplers")
    index = 3 * int(place[2]) + (2 if sampler else int(place[4]))
    return f"IN{index + 1:02d}" if place[1] == "down" else f"OUT{index:02d}"


def frozen(names: Sequence[str], wanted: Sequence[str]) -> set[str]:
    """Those of a UNet's parameter `names` that are in the `wanted` blocks or parts (upper or lower case).

    Raises `AtelierError` for a block that this UNet does not have.
    """
    blocks: dict[str, set[str]] = {}
    for name in names:
        blocks.setdefault(block_of(name), set()).add(name)
    found: set[str] = set()
    for word in wanted:
        given = word.strip()
        part = PARTS.get(given.lower())
        matching = [block for block in blocks if (block.startswith(part) if part else block == given.upper())]
        if not matching:
            raise AtelierError(
                f"{labelled('freeze_blocks')}: this model has no {shortened(repr(given))}. It can be "
                f"{', '.join(PARTS)}, or single blocks: {', '.join(sorted(blocks))}."
            )
        for block in matching:
            found |= blocks[block]
    return found


SDXL_RATES = 23
"""Number of learning rates in kohya's block_lr: TIME, nine down blocks, three parts of the middle, nine up, END."""


def place_in_block_lr(name: str) -> int:
    """The index in kohya's block_lr, from 0, for a parameter of SDXL's UNet."""
    block = block_of(name)
    if block == "TIME":
        return 0
    if block == "END":
        return SDXL_RATES - 1
    if block == "MID":
        return 11 if ".attentions." in name else 10 if ".resnets.0." in name else 12
    return int(block[2:]) + 1 if block.startswith("IN") else int(block[3:]) + 13


def block_rates(text: str, family: str) -> list[float]:
    """The 23 learning rates of block_lr; one number is used for all. Raises `AtelierError` for anything else."""
    if family != "sdxl":
        raise AtelierError(
            f"{labelled('block_lr')} is for SDXL. For other models use {labelled('freeze_blocks')} and "
            f"{labelled('learning_rate')}."
        )
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError as error:
        allowed = f"it must be {SDXL_RATES} numbers, separated by commas"
        raise SettingsError([Problem("block_lr", text, allowed)]) from error
    if len(rates) == 1:
        rates *= SDXL_RATES
    if len(rates) != SDXL_RATES or min(rates) < 0:
        allowed = f"it must be {SDXL_RATES} numbers, none below 0"
        raise SettingsError([Problem("block_lr", text, allowed)])
    return rates
