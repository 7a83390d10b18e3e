"""The blocks of a UNet in kohya's numbering, for ranks, alphas and learning rates per block."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atelier.config.errors import AtelierError
from atelier.config.kohya.network_args import NETWORK_ARGS

_DIFFUSERS = re.compile(r"(up|down)_blocks_(\d+)_(resnets|upsamplers|downsamplers|attentions)_(\d+)")
_LDM = re.compile(r"(input|middle|output)_blocks?_(\d+)")
_SHAPES = {"sdxl": (9, 3, 9)}
"""Blocks on the way down, in the middle and on the way up, where they are not 12, 1 and 12."""


@dataclass(frozen=True)
class BlockCounts:
    """The number of blocks. SDXL has one more at each end, which no LoRA adapts."""

    down: int
    middle: int
    up: int
    ends: bool

    @property
    def total(self) -> int:
        return self.down + self.middle + self.up + (2 if self.ends else 0)


def block_counts(family: str) -> BlockCounts:
    """25 blocks for SD1 and SD2, 23 for SDXL."""
    down, middle, up = _SHAPES.get(family, (12, 1, 12))
    return BlockCounts(down, middle, up, family in _SHAPES)


def block_of(name: str) -> int | None:
    """The number of the block with the layer of this kohya name; None for a layer outside the blocks.

    SD1, SD2: 1 to 11 down, 12 middle, 13 to 24 up. SDXL: 1 to 9 down, 10 to 12 middle, 13 to 21 up.
    """
    ldm = _LDM.search(name)
    if ldm is not None:
        return {"input": 1, "middle": 10, "output": 13}[ldm[1]] + int(ldm[2])
    if "mid_block_" in name:
        return 12
    place = _DIFFUSERS.search(name)
    if place is None:
        return None
    index = 3 * int(place[2]) + (2 if "samplers" in place[3] else int(place[4]))
    return index + (1 if place[1] == "down" else 13)


def numbers(arguments: Mapping[str, str], key: str, count: int) -> list[float] | None:
    """A list of `count` numbers from network_args; None when it is not set. Raises `AtelierError`."""
    text = arguments.get(key)
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        allowed = f"it must be {count} numbers, separated by commas"
        raise AtelierError(f"{NETWORK_ARGS}: {key} is {text!r}; {allowed}.") from error
    if len(values) != count:
        raise AtelierError(f"{NETWORK_ARGS}: {key} has {len(values)} numbers; this model family needs {count}.")
    return values


def block_rates(arguments: Mapping[str, str], family: str) -> list[float] | None:
    """The factor of the learning rate for each block; None when no down_, mid_ or up_lr_weight is set.

    A part that is not set has the factor 1. Short lists are filled with 1. Factors up to block_lr_zero_threshold
    count as 0. Raises `AtelierError` for a text that is neither a list of numbers nor the name of a curve.
    """
    keys = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")
    if not any(arguments.get(key) for key in keys):
        return None
    counts = block_counts(family)
    try:
        threshold = float(arguments.get("block_lr_zero_threshold") or 0.0)
    except ValueError as error:
        raise AtelierError(f"{NETWORK_ARGS}: block_lr_zero_threshold must be a number.") from error
    rates: list[float] = []
    for key, count in zip(keys, (counts.down, counts.middle, counts.up)):
        text = arguments.get(key)
        part = [1.0] * count if not text else _rates(key, text, count)
        rates += [rate if not text or rate > threshold else 0.0 for rate in part]
    return [1.0, *rates, 1.0] if counts.ends else rates


def _rates(key: str, text: str, count: int) -> list[float]:
    name, _, offset = text.partition("+")
    steps = [index / max(1, count - 1) for index in range(count)]
    curves: dict[str, Sequence[float]] = {
        "sine": [math.sin(math.pi * step / 2) for step in steps],
        "cosine": [math.sin(math.pi * step / 2) for step in reversed(steps)],
        "linear": steps,
        "reverse_linear": steps[::-1],
        "zeros": [0.0] * count,
    }
    try:
        if name in curves:
            base = float(offset or 0.0)
            return [rate + base for rate in curves[name]]
        given = [float(part) if part.strip() else 0.0 for part in text.split(",")]
    except ValueError as error:
        allowed = f"{count} numbers, separated by commas, or one of {', '.join(curves)}"
        raise AtelierError(f"{NETWORK_ARGS}: {key} is {text!r}; it must be {allowed}.") from error
    return (given + [1.0] * count)[:count]
