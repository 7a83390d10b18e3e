"""Layers of other programs' files that lie otherwise in our model: under another name, or several in one matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.models.family import Family, ReadsOtherNames

Layers = dict[str, dict[str, Tensor]]
_PLAIN = {"lora_down.weight", "lora_up.weight", "alpha"}


def as_ours(family: Family, layers: Layers) -> Layers:
    """The layers {name: {suffix: tensor}} of a file as the family's modules have them.

    LoRAs of the parts of one matrix become one of the whole, whose rank is the sum of theirs: down stacked, up
    block-diagonal. It changes the weight as they do. Other kinds of adapters of such parts are left as they are, and so
    fit no layer.
    """
    if not isinstance(family, ReadsOtherNames):
        return layers
    found: Layers = {}
    joined: dict[str, dict[int, dict[str, Tensor]]] = {}
    counts: dict[str, int] = {}
    for layer, tensors in layers.items():
        place = family.own_layer(layer)
        if place is None:
            found[layer] = tensors
            continue
        name, part, count = place
        if count == 1:
            found[name] = tensors
        elif set(tensors) <= _PLAIN and {"lora_down.weight", "lora_up.weight"} <= set(tensors):
            joined.setdefault(name, {})[part] = tensors
            counts[name] = count
        else:
            found[layer] = tensors
    for name, parts in joined.items():
        found[name] = _together(parts, counts[name])
    return found


def _together(parts: dict[int, dict[str, Tensor]], count: int) -> dict[str, Tensor]:
    """One LoRA for `count` parts of equally many rows, of which some may have none. Its alpha is its rank."""
    rows = next(iter(parts.values()))["lora_up.weight"].shape[0]
    ups, downs = [], []
    for part in range(count):
        if part not in parts:
            some = next(iter(parts.values()))["lora_up.weight"]
            ups.append(some.new_zeros(rows, 0))
            continue
        tensors = parts[part]
        down, up = tensors["lora_down.weight"], tensors["lora_up.weight"]
        alpha = float(tensors["alpha"]) if "alpha" in tensors else 0.0
        ups.append(up * (alpha / down.shape[0]) if alpha else up)
        downs.append(down)
    down = torch.cat(downs)
    return {
        "lora_down.weight": down,
        "lora_up.weight": torch.block_diag(*ups),
        "alpha": torch.tensor(float(down.shape[0])),
    }
