"""Reads ranks and alphas from the tensors of a LoRA file, for a file whose metadata do not state them as numbers.

Such are LoRAs with a rank of its own in each layer, which kohya's tools call "Dynamic". Only the header and two single
numbers are read, without torch.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DOWN = re.compile(
    r"\.(?:(?:lora_down|lora_A|lora\.down|lora_linear_layer\.down)(?:\.\w+)?\.weight|hada_w1_b|lokr_w1_b|lokr_w2_b)$"
)
"""Ends of the tensors whose first dimension is the rank of their layer."""
LARGEST = 1_000_000
"""Tensors that claim a larger rank are not looked at."""
_FORMATS = {"F64": "<d", "F32": "<f", "F16": "<e"}


@dataclass(frozen=True)
class Ranks:
    """The largest rank and its alpha, those of 3x3 convolutions (None without them), and all ranks there are."""

    dim: int
    alpha: float
    conv_dim: int | None
    conv_alpha: float | None
    all_ranks: tuple[int, ...]

    @property
    def note(self) -> str:
        """A sentence about where the rank comes from."""
        if len(self.all_ranks) == 1:
            return "Taken from the tensors of the file."
        least, most = self.all_ranks[0], self.all_ranks[-1]
        return f"Its layers have ranks from {least} to {most}; the largest is taken."


def ranks_of(path: Path, entries: Mapping[str, Mapping[str, Any]], start: int) -> Ranks | None:
    """The ranks of the file at `path`; None when it has no layer with ranks.

    `entries`: the header by tensor, each checked by `is_entry`. `start`: where the data begin, in bytes.
    """
    plain: dict[str, int] = {}
    spatial: dict[str, int] = {}
    for name, entry in entries.items():
        match, shape = _DOWN.search(name), entry["shape"]
        if match and len(shape) > 1 and 0 < shape[0] <= LARGEST:
            kernel = len(shape) == 4 and max(shape[2:]) > 1
            (spatial if kernel else plain)[name[: match.start()]] = shape[0]
    main = plain or spatial
    if not main:
        return None
    dim, alpha = _largest(path, main, entries, start)
    conv_dim, conv_alpha = _largest(path, spatial, entries, start) if spatial else (None, None)
    return Ranks(dim, alpha, conv_dim, conv_alpha, tuple(sorted(set(main.values()))))


def _largest(
    path: Path, ranks: Mapping[str, int], entries: Mapping[str, Mapping[str, Any]], start: int
) -> tuple[int, float]:
    """The largest rank, and the alpha of the first layer that has it; without an alpha it is the rank, as in kohya."""
    layer = max(ranks, key=lambda name: ranks[name])
    alpha = _number(path, entries.get(f"{layer}.alpha"), start)
    return ranks[layer], alpha or float(ranks[layer])


def _number(path: Path, entry: Mapping[str, Any] | None, start: int) -> float | None:
    """The single number of a tensor; None when there is none, or when it cannot be read."""
    if entry is None or math.prod(entry["shape"]) != 1:
        return None
    first, last = entry["data_offsets"]
    try:
        with path.open("rb") as file:
            file.seek(start + first)
            data = file.read(min(last - first, 8))
        if entry["dtype"] == "BF16":
            data = b"\0\0" + data
        value = float(struct.unpack(_FORMATS.get(entry["dtype"], "<f"), data)[0])
    except (OSError, OverflowError, ValueError, struct.error):
        return None
    return value if math.isfinite(value) else None
