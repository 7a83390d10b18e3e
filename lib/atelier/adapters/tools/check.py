"""Checks a LoRA file: its kind and model family, whether it is intact, and how strong it is in each block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atelier.adapters.applied.apply import match_layers
from atelier.adapters.applied.deltas import weight_change
from atelier.adapters.files.kohya_file import LoRAFile
from atelier.adapters.files.layouts import layers_of, layout_of, split_key
from atelier.adapters.layers.blocks import block_of
from atelier.adapters.layers.targets import UNET, Target
from atelier.config.errors import AtelierError, few
from atelier.models.family import Parts

_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
"""Channels of the prompt embeddings that the UNet attends to -> family."""


@dataclass(frozen=True)
class LoraCheck:
    """The result of a check. `norms`: norm of the weight change per block ("text_encoder", "unet block 4", …)."""

    name: str
    kind: str
    layout: str
    family: str | None
    """The model family it was made for, judged by its shapes; None when they do not tell."""
    ranks: dict[int, int]
    """Rank -> number of layers."""
    layers: int
    matched: int
    unmatched: list[str] = field(default_factory=list)
    unfitting: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Tensors with NaN or infinite values."""
    silent: list[str] = field(default_factory=list)
    """Layers without any effect."""
    norms: dict[str, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """True when the file fits the model and all its values are finite."""
        return self.matched > 0 and not self.broken and not self.unfitting

    def sentence(self) -> str:
        """The result in one sentence."""
        if self.broken:
            return f"{self.name} is damaged: {len(self.broken)} of its tensors hold NaN ({few(self.broken)})."
        if not self.matched:
            return f"{self.name} fits no layer of this model; it was made for {self.family or 'another model family'}."
        if self.unfitting:
            count = len(self.unfitting)
            return f"{self.name}: {count} layers have other shapes than this model ({few(self.unfitting)})."
        left = f"; {len(self.unmatched)} keys belong to no layer of it" if self.unmatched else ""
        return f"{self.name} ({self.kind}) fits: {self.matched} of {self.layers} layers are used{left}."


def family_of(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The family of a LoRA, by the width of the prompt embeddings in its cross attention; None if it has none."""
    for key, shape in shapes.items():
        split = split_key(key)
        if split is None or len(shape) < 2:
            continue
        if "attn2" in key and split[0].endswith(("to_k", "to_v")) and split[1] in ("lora_down.weight", "hada_w1_b"):
            return _WIDTHS.get(shape[1])
    second = ("lora_te2_", "text_encoder_2.", "text_encoders.clip_g.")
    if any(key.startswith(second) for key in shapes):
        return "sdxl"
    return "sd2" if any(key.startswith("text_encoders.clip_h.") for key in shapes) else None


@torch.no_grad()
def check_lora(file: LoRAFile, parts: Parts | None = None) -> LoraCheck:
    """Checks a file, and how it fits the model when `parts` is given. Raises `AtelierError` when it cannot be read."""
    layers, strange = layers_of(file.tensors)
    ranks: dict[int, int] = {}
    for tensors in layers.values():
        for suffix in ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
            if suffix in tensors:
                ranks[tensors[suffix].shape[0]] = ranks.get(tensors[suffix].shape[0], 0) + 1
                break
    found: list[tuple[Target, dict[str, Tensor]]] = []
    unmatched = strange
    if parts is not None:
        found, unmatched, _ = match_layers(parts, file)
    unfitting: list[str] = []
    silent: list[str] = []
    squares: dict[str, float] = {}
    for target, tensors in found:
        try:
            norm = change_norm(target, tensors)
        except AtelierError as error:
            unfitting.append(f"{target.name}: {error}")
            continue
        if norm is None or not math.isfinite(norm):
            continue
        if norm == 0:
            silent.append(target.name)
        block = block_of(target.name)
        label = target.part if target.part != UNET else f"unet block {block}" if block is not None else UNET
        squares[label] = squares.get(label, 0.0) + norm**2
    return LoraCheck(
        name=file.name,
        kind=file.kind,
        layout=layout_of(file.shapes),
        family=family_of(file.shapes),
        ranks=dict(sorted(ranks.items())),
        layers=len(layers),
        matched=len(found) - len(unfitting),
        unmatched=sorted(unmatched),
        unfitting=unfitting,
        broken=file.broken,
        silent=silent,
        norms={label: math.sqrt(square) for label, square in squares.items()},
    )


def change_norm(target: Target, tensors: Mapping[str, Tensor]) -> float | None:
    """The norm of one layer's weight change at full strength; None when it needs weights that are not in memory.

    Raises `AtelierError` when the shapes do not fit the layer.
    """
    base: Tensor = target.module.weight.detach()
    up, down = tensors.get("lora_up.weight"), tensors.get("lora_down.weight")
    if set(tensors) <= {"lora_up.weight", "lora_down.weight", "alpha"} and up is not None and down is not None:
        if down[0].numel() != base[0].numel() or up.numel() != base.shape[0] * down.shape[0]:
            raise AtelierError(f"it is {list(up.shape)} · {list(down.shape)}, the base has {list(base.shape)}")
        alpha = float(tensors.get("alpha", 0.0))
        left, right = up.flatten(1).double(), down.flatten(1).double()
        square = float(((left.t() @ left) * (right @ right.t())).sum())
        return math.sqrt(max(0.0, square)) * (alpha / down.shape[0] if alpha else 1.0)
    if base.device.type == "meta":
        return None
    return float(weight_change(tensors, base.float()).norm())
