"""The blocks of a UNet by the names that merging tools gave them: TIME, IN00 to IN11, MID, OUT00 to OUT11, END."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atelier.config.errors import AtelierError

_PLACE = re.compile(r"(up|down)_blocks\.(\d+)\.(resnets|attentions|upsamplers|downsamplers)\.(\d+)")
PARTS = {"down": "IN", "mid": "MID", "up": "OUT", "time": "TIME", "end": "END"}
"""Whole parts: the way down, the middle, the way up, what reads the timestep, and the last convolution."""


def block_of(name: str) -> str:
    """The block in which a diffusers UNet's parameter lies, as "IN04"; Stable Diffusion's own files count so.

    Two layers on the way down and a third for its downsampler, three on the way up; SDXL ends at IN08 and OUT08.
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
    """Of a UNet's parameter `names` those in the `wanted` blocks or parts, in any case.

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
                f"freeze_blocks: this model has no {given!r}; it can be {', '.join(PARTS)}, or single blocks: "
                f"{', '.join(sorted(blocks))}."
            )
        for block in matching:
            found |= blocks[block]
    return found


SDXL_RATES = 23
"""How many rates kohya's block_lr has: TIME, nine blocks down, three parts of the middle, nine up, END."""


def place_in_block_lr(name: str) -> int:
    """The place, from 0, of an SDXL UNet's parameter in kohya's block_lr."""
    block = block_of(name)
    if block == "TIME":
        return 0
    if block == "END":
        return SDXL_RATES - 1
    if block == "MID":
        return 11 if ".attentions." in name else 10 if ".resnets.0." in name else 12
    return int(block[2:]) + 1 if block.startswith("IN") else int(block[3:]) + 13


def block_rates(text: str, family: str) -> list[float]:
    """The 23 rates of block_lr; one number stands for all. Raises `AtelierError` for another family or number."""
    if family != "sdxl":
        raise AtelierError("block_lr has the blocks of SDXL; for other models use freeze_blocks and learning_rate.")
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise AtelierError(f"block_lr is {text!r}; it must be {SDXL_RATES} numbers with commas.") from error
    if len(rates) == 1:
        rates *= SDXL_RATES
    if len(rates) != SDXL_RATES or min(rates) < 0:
        raise AtelierError(f"block_lr has {len(rates)} numbers; it must be {SDXL_RATES}, none below 0.")
    return rates
