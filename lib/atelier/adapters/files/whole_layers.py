"""Checks by their shapes whether the tensors of an adapter file can be complete layers, before computing anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

from atelier.adapters.files.layouts import layers_of

Shape = tuple[int, ...]
ONE_NUMBER = frozenset(("alpha", "scalar", "on_input"))
MATRICES = frozenset((
    "lora_down.weight", "lora_up.weight", "lora_mid.weight", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b",
))  # fmt: skip
"""Suffixes of tensors that must be matrices."""
_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


def fault_of(shapes: Mapping[str, Shape]) -> str | None:
    """What is wrong with the first faulty layer, for the end of a sentence; None when all layers are complete."""
    layers, _ = layers_of(shapes)
    for name, layer in layers.items():
        for suffix, shape in layer.items():
            where = f"{name}.{suffix} has the shape {list(shape)}"
            if 0 in shape:
                return f"{where}, which is empty"
            if suffix in ONE_NUMBER and math.prod(shape) != 1:
                return f"{where}; it must be a single number"
            if suffix in MATRICES and len(shape) < 2:
                return f"{where}; it must be a matrix"
            if suffix not in ONE_NUMBER and not shape:
                return f"{where}; it must be a vector"
        missing = _missing(layer)
        if missing:
            return f"{name} lacks {missing}"
    return None


def _missing(layer: Mapping[str, Shape]) -> str:
    """The tensor that an incomplete LoHa or LoKr lacks; "" for a complete one and for other kinds."""
    if any(part in layer for part in _LOHA):
        return next((part for part in _LOHA if part not in layer), "")
    if any(part.startswith("lokr_w") for part in layer):
        for part in ("lokr_w1", "lokr_w2"):
            if part not in layer and not {f"{part}_a", f"{part}_b"} <= set(layer):
                return part
    return ""
