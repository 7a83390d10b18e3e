"""Converts LoRA files between layouts: kohya's, and PEFT's as diffusers writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.applied.apply import match_layers, peft_alphas
from atelier.adapters.files.kohya_file import LoRAFile
from atelier.adapters.files.layouts import layers_of, split_key
from atelier.adapters.layers.targets import UNET, Target
from atelier.config.errors import AtelierError, few
from atelier.models.family import Parts

LOW_RANK = frozenset({"lora_down.weight", "lora_up.weight", "alpha", "dora_scale"})


@dataclass(frozen=True)
class Converted:
    """The result of a conversion: tensors in the new layout, and keys of the file without a layer in the model."""

    tensors: dict[str, Tensor]
    unknown: list[str]


def to_kohya(parts: Parts, file: LoRAFile) -> Converted:
    """Converts any layout to kohya's names for this model. Only the shapes of `parts` count; they may be on "meta".

    Every low-rank layer gets an alpha. Shapes become those of the model's layers: 1x1 convolutions have four
    dimensions, Linear layers two. Raises `AtelierError` when nothing fits.
    """
    layers, unknown, _ = match_layers(parts, file)
    if not layers:
        raise AtelierError(f"{file.name} has no layer of this model family.")
    tensors: dict[str, Tensor] = {}
    for target, values in layers:
        values = _in_shape(target, values)
        down = values.get("lora_down.weight")
        if down is not None and "alpha" not in values:
            values["alpha"] = torch.tensor(float(down.shape[0]), dtype=down.dtype)
        tensors.update({f"{target.name}.{suffix}": tensor for suffix, tensor in values.items()})
    return Converted(tensors, unknown)


def to_peft(parts: Parts, file: LoRAFile) -> Converted:
    """Converts any layout to PEFT's, as diffusers loads it: `unet.PATH.lora_A.weight`, with alpha in `lora_B`.

    Raises `AtelierError` for kinds of adapter that PEFT's LoRA cannot express.
    """
    layers, unknown, _ = match_layers(parts, file)
    if not layers:
        raise AtelierError(f"{file.name} has no layer of this model family.")
    tensors: dict[str, Tensor] = {}
    for target, values in layers:
        if not set(values) <= LOW_RANK or not {"lora_down.weight", "lora_up.weight"} <= set(values):
            raise AtelierError(f"{file.name} is of the kind {file.kind}; PEFT's layout has only LoRA and DoRA.")
        values = _in_shape(target, values)
        down, up = values["lora_down.weight"], values["lora_up.weight"]
        scale = float(values["alpha"]) / down.shape[0] if float(values.get("alpha", 0)) else 1.0
        name = f"{target.part}.{_peft_path(target)}"
        tensors[f"{name}.lora_A.weight"] = down
        tensors[f"{name}.lora_B.weight"] = (up.float() * scale).to(up.dtype)
        if "dora_scale" in values:
            magnitude = values["dora_scale"]
            if magnitude.shape[0] != up.shape[0]:
                raise AtelierError(f"{file.name}: its DoRA is per input, which PEFT cannot express.")
            shape = (-1,) if magnitude.ndim == 2 else (1, -1, 1, 1)
            tensors[f"{name}.lora_magnitude_vector.weight"] = magnitude.reshape(shape)
    return Converted(tensors, unknown)


def low_rank_layers(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{layer: {suffix in kohya's words: tensor}} of a LoRA, LoCon or DoRA, by the layers' names in its file.

    Raises `AtelierError` for other kinds, and for tensors that belong to no adapter.
    """
    layers, unknown = layers_of(tensors)
    if unknown:
        raise AtelierError(f"It has more than a LoRA's tensors ({few(unknown)}) and cannot be resized.")
    if not layers:
        raise AtelierError("It has no layer, so there is nothing to resize.")
    allowed = LOW_RANK | {"magnitude"}
    for layer, values in layers.items():
        if not set(values) <= allowed or not {"lora_down.weight", "lora_up.weight"} <= set(values):
            raise AtelierError(f"{layer} is not a LoRA (it has {', '.join(sorted(values))}) and cannot be resized.")
    return layers


def with_alphas_inside(file: LoRAFile) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a file in any layout, with the alphas that PEFT states in the metadata in its tensors.

    The strength of such a layer goes into its `lora_B`, since other ranks make PEFT's configuration wrong.
    """
    layers, _ = layers_of(file.tensors)
    alphas = peft_alphas(file, {layer: values for layer, values in layers.items() if "alpha" not in values})
    tensors = dict(file.tensors)
    for key, tensor in file.tensors.items():
        layer, suffix = split_key(key) or ("", "")
        if suffix == "lora_up.weight" and layer in alphas:
            tensors[key] = (tensor.float() * (alphas[layer] / tensor.shape[1])).to(tensor.dtype)
    return tensors, {key: text for key, text in file.metadata.items() if key != "lora_adapter_metadata"}


def _in_shape(target: Target, values: dict[str, Tensor]) -> dict[str, Tensor]:
    shape = target.module.weight.shape
    values = dict(values)
    if set(values) <= LOW_RANK and {"lora_down.weight", "lora_up.weight"} <= set(values):
        down, up = values["lora_down.weight"], values["lora_up.weight"]
        dim = down.shape[0]
        if down[0].numel() != shape[1:].numel() or up.numel() != shape[0] * dim:
            raise AtelierError(f"{target.name} is {list(down.shape)} in the file, this model has {list(shape)}.")
        values["lora_down.weight"] = down.reshape(dim, *shape[1:])
        values["lora_up.weight"] = up.reshape(shape[0], dim, *[1] * (len(shape) - 2))
    return values


def _peft_path(target: Target) -> str:
    """Text encoders have `text_model.` in front in every file, whatever the installed transformers calls them."""
    if target.part == UNET or target.path.startswith("text_model."):
        return target.path
    return f"text_model.{target.path}"
