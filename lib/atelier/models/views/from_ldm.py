"""Builds the modules of a model from tensors in the LDM layout, sharing the tensors' memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier.config.errors import AtelierError
from atelier.models.family import Family, Parts
from atelier.models.text.clip_names import PREFIX
from atelier.models.unet.ldm_names import TEXT_PARTS, LdmNames, take
from atelier.models.views.configs import structure_of, text_config, unet_config, vae_config
from atelier.models.views.view import view

ALL_PARTS = frozenset(("unet", "text_encoder", "vae"))
"""Parts that can be leased; "text_encoder" means all text encoders."""

TEXT_CLASSES: dict[str, tuple[type[nn.Module], ...]] = {
    "sd1": (CLIPTextModel,),
    "sd2": (CLIPTextModel,),
    "sdxl": (CLIPTextModel, CLIPTextModelWithProjection),
}

_CLIP_KEYS = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "projection_dim",
    "vocab_size",
)


@dataclass
class Weights:
    """The tensors of a model under diffusers' names, and the configurations of its modules, by part.

    Parts: "unet", "vae", "text_encoder", "text_encoder_2".
    """

    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)


def configs_of(
    family: Family, shapes: Mapping[str, Sequence[int]], parts: frozenset[str] = ALL_PARTS
) -> dict[str, dict[str, Any]]:
    """The configurations of these parts of an LDM file, from the shapes of its tensors."""
    configs = {}
    if "unet" in parts:
        configs["unet"] = unet_config(family.name, shapes)
    if "text_encoder" in parts:
        for index in range(len(TEXT_CLASSES[family.name])):
            configs[TEXT_PARTS[index]] = text_config(family.name, index, shapes)
    vae = vae_config(family.name, shapes) if "vae" in parts else None
    if vae is not None:
        configs["vae"] = vae
    return configs


def weights_from_ldm(
    family: Family,
    shapes: Mapping[str, Sequence[int]],
    read: Callable[[str], Tensor],
    parts: frozenset[str] = ALL_PARTS,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Weights:
    """Reads the tensors of these parts. The results of `read(key)` are used as they are, or as views.

    `overrides` has configuration values that shapes do not show, per part: {"unet": {"attention_head_dim": 4}}.
    """
    names = LdmNames(structure_of(family.name, shapes))
    configs = configs_of(family, shapes, parts)
    for part, changes in (overrides or {}).items():
        if part in configs:
            configs[part].update(changes)
    weights = Weights({part: {} for part in configs}, configs)
    for key in shapes:
        targets = [target for target in names.targets(key) if target.part in configs]
        if not targets or all(_is_unused_layer(t.part, t.name, configs) for t in targets):
            continue
        tensor = read(key)
        for target in targets:
            weights.tensors[target.part][target.name] = take(tensor, target.form)
    return weights


def parts_from_weights(
    family: Family,
    weights: Weights,
    tokenizers: list[Any],
    prediction_type: str = "epsilon",
    zero_terminal_snr: bool = False,
) -> Parts:
    """Modules over the tensors of `weights`, which must have a UNet. Raises `AtelierError` for an incomplete module."""
    if "unet" not in weights.tensors:
        raise AtelierError("The model has no UNet.")

    def module(part: str, kind: type[nn.Module]) -> nn.Module:
        return view(kind, weights.configs[part], weights.tensors[part])

    encoders = [
        module(part, kind)
        for part, kind in zip(TEXT_PARTS, TEXT_CLASSES[family.name], strict=False)
        if part in weights.tensors
    ]
    return Parts(
        family=family,
        denoiser=module("unet", UNet2DConditionModel),
        text_encoders=encoders,
        tokenizers=tokenizers,
        vae=module("vae", AutoencoderKL) if "vae" in weights.tensors else None,
        prediction_type=prediction_type,
        zero_terminal_snr=zero_terminal_snr,
    )


def clip_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a text encoder's configuration that change the module."""
    return {key: value for key, value in config.items() if key in _CLIP_KEYS}


def _is_unused_layer(part: str, name: str, configs: Mapping[str, Mapping[str, Any]]) -> bool:
    """True for SD2's last text layer, which is in the file but never used."""
    layers = PREFIX + "encoder.layers."
    if not name.startswith(layers):
        return False
    return int(name[len(layers) :].split(".", 1)[0]) >= configs[part]["num_hidden_layers"]
