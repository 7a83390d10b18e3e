"""Checks by their shapes whether the tensors of an adapter file can be complete layers, before computing anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

from atelier.adapters.files.layouts import as_written, kind_of, layers_of, suffixes_as_written

Shape = tuple[int, ...]
ONE_NUMBER = frozenset(("alpha", "scalar", "on_input"))
MATRICES = frozenset((
    "lora_down.weight", "lora_up.weight", "lora_mid.weight", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b",
))  # fmt: skip
"""Suffixes of tensors that must be matrices."""
_LORA = ("lora_down.weight", "lora_up.weight")
_PRODUCTS = (("lora_up.weight", "lora_down.weight"), ("hada_w1_a", "hada_w1_b"), ("hada_w2_a", "hada_w2_b"),
             ("lokr_w1_a", "lokr_w1_b"), ("lokr_w2_a", "lokr_w2_b"))  # fmt: skip
"""Pairs of matrices that are multiplied, where no core is between them: columns of the first, rows of the second."""
_ANY_CORE = frozenset(("lora_mid.weight", "hada_t1", "hada_t2", "lokr_t2"))
_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_CORES = ("hada_t1", "hada_t2")
_LOKR = ("lokr_w1", "lokr_w2")
_GLORA = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")
_IA3 = ("weight", "on_input")
_NEEDED = {
    "loha": _LOHA, "lokr": _LOKR, "oft": ("oft_blocks",), "boft": ("oft_blocks",), "ia3": _IA3, "glora": _GLORA,
    "full": ("diff",), "norm": ("w_norm",),
}  # fmt: skip
"""What a layer needs by the kind of its file, where its own tensors do not tell the kind; else a LoRA's."""
_OF_ANY_KIND = frozenset(("alpha", "dora_scale", "magnitude", "scalar"))
"""Suffixes of tensors that several kinds have, and that are nothing alone."""


def fault_of(shapes: Mapping[str, Shape]) -> str | None:
    """What is wrong with the first faulty layer, for the end of a sentence; None when all layers are complete."""
    layers, _ = layers_of(shapes)
    kind = kind_of(shapes)
    faulty = [name for name, layer in layers.items() if _bad_shape(name, layer) or _missing(layer, kind)]
    if not faulty:
        return None
    name, more = faulty[0], len(faulty) - 1
    fault = _bad_shape(name, layers[name])
    if fault is None:
        written = suffixes_as_written(name, shapes)
        fault = f"{name} lacks {' and '.join(as_written(part, written) for part in _missing(layers[name], kind))}"
    return fault + (f" ({more} more {'layer is' if more == 1 else 'layers are'} faulty too)" if more else "")


def _bad_shape(name: str, layer: Mapping[str, Shape]) -> str | None:
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
    if layer.keys() & _ANY_CORE:
        return None
    for left, right in _PRODUCTS:
        if left in layer and right in layer and layer[left][1] != layer[right][0]:
            return f"{name} has the rank {layer[left][1]} in {left} and {layer[right][0]} in {right}"
    return None


def _missing(layer: Mapping[str, Shape], kind: str) -> list[str]:
    """The tensors that a layer lacks, [] for a complete one. `kind`: that of the file."""
    present = layer.keys()
    if present & {*_LORA, "lora_mid.weight"}:
        return [part for part in _LORA if part not in layer]
    if present & {*_LOHA, *_CORES}:
        needed = (*_LOHA, *_CORES) if present & set(_CORES) else _LOHA
        return [part for part in needed if part not in layer]
    if any(part.startswith("lokr_") for part in layer):
        return [part for factor in _LOKR for part in _missing_of_factor(factor, layer)]
    if present & set(_GLORA):
        return [part for part in _GLORA if part not in layer]
    if "on_input" in layer or (kind == "ia3" and "weight" in layer):
        return [part for part in _IA3 if part not in layer]
    if "rescale" in layer and "oft_blocks" not in layer:
        return ["oft_blocks"]
    if present & {"b_norm", "bias_norm"} and "w_norm" not in layer:
        return ["w_norm"]
    # A file of nothing but such numbers is no adapter at all, which its use tells.
    return list(_NEEDED.get(kind, _LORA)) if present <= _OF_ANY_KIND and kind != "unknown" else []


def _missing_of_factor(factor: str, layer: Mapping[str, Shape]) -> list[str]:
    """What is missing of one of LoKr's two factors, which is a matrix, or the product of two with an optional core."""
    if factor in layer:
        return []
    halves = (f"{factor}_a", f"{factor}_b")
    begun = any(half in layer for half in halves) or (factor == "lokr_w2" and "lokr_t2" in layer)
    return [half for half in halves if half not in layer] if begun else [factor]
