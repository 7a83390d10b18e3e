"""Merges LoRAs into the weights of a model, or several LoRAs into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.applied.apply import LoraUse, match_layers
from atelier.adapters.applied.deltas import weight_change
from atelier.adapters.files.kohya_file import LoRAFile
from atelier.adapters.layers.names import LayerNames
from atelier.adapters.layers.targets import UNET, Target
from atelier.adapters.tools.exchange import low_rank_layers, to_kohya
from atelier.adapters.tools.resize import resize
from atelier.config.errors import AtelierError
from atelier.models.family import Parts


@dataclass(frozen=True)
class MergedWeight:
    """The new weight of the layer at `path` in `part` ("unet", "text_encoder" …). The base is unchanged."""

    part: str
    path: str
    tensor: Tensor


@torch.no_grad()
def merged_weights(parts: Parts, uses: Sequence[LoraUse]) -> Iterator[MergedWeight]:
    """Yields the weights that change when these LoRAs, of any kind, are merged into the model, one after the other.

    They are computed in fp32 and returned in the precision of the base. The model is not changed. Raises `AtelierError`
    when a LoRA does not fit or has NaN.
    """
    names = LayerNames(parts)
    changes: dict[str, list[tuple[float, dict[str, Tensor]]]] = {}
    found: dict[str, Target] = {}
    for use in uses:
        use.file.check_finite()
        layers, _, _ = match_layers(parts, use.file, names)
        if not layers:
            raise AtelierError(f"{use.file.name} has no layer of this model.")
        for target, tensors in layers:
            found[target.name] = target
            weight = use.unet if target.part == UNET else use.text_encoder
            changes.setdefault(target.name, []).append((weight, tensors))
    for name, target in found.items():
        base = target.module.weight.detach()
        merged = base.float()
        for weight, tensors in changes[name]:
            try:
                merged = merged + weight * weight_change(tensors, base.float())
            except AtelierError as error:
                raise AtelierError(f"{name}: {error}.") from error
        yield MergedWeight(target.part, target.path, merged.to(base.dtype))


@torch.no_grad()
def merged_lora(
    parts: Parts, files: Sequence[tuple[LoRAFile, float]], rank: int | None = None, conv_rank: int | None = None
) -> dict[str, Tensor]:
    """Several LoRAs, each with its weight, as one, with kohya's names in fp32.

    The result is exact when its rank may be the sum of all ranks (`rank` None), else the best one of rank `rank`. DoRA
    is refused, since its effect is not a sum. Raises `AtelierError` when a file does not fit the model.
    """
    ups: dict[str, list[Tensor]] = {}
    downs: dict[str, list[Tensor]] = {}
    for file, weight in files:
        file.check_finite()
        for layer, values in low_rank_layers(to_kohya(parts, file).tensors).items():
            if "dora_scale" in values:
                raise AtelierError(f"{file.name} is a DoRA, which cannot be added to another LoRA.")
            down = values["lora_down.weight"].float()
            scale = float(values["alpha"]) / down.shape[0]
            ups.setdefault(layer, []).append(values["lora_up.weight"].float() * (scale * weight))
            downs.setdefault(layer, []).append(down)
    merged: dict[str, Tensor] = {}
    for layer in ups:
        merged[f"{layer}.lora_down.weight"] = torch.cat(downs[layer], dim=0)
        merged[f"{layer}.lora_up.weight"] = torch.cat(ups[layer], dim=1)
        merged[f"{layer}.alpha"] = torch.tensor(float(merged[f"{layer}.lora_down.weight"].shape[0]))
    return merged if rank is None else resize(merged, rank, conv_rank).tensors
