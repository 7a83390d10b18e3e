"""Tiny random models of each family's real architecture, for the tests of `atelier.models`."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig

from atelier.models.assets import load_tokenizers, released_config
from atelier.models.family import Parts
from atelier.models.registry import family_named
from atelier.models.views.from_ldm import TEXT_CLASSES

FAMILY_NAMES = ("sd1", "sd2", "sdxl")


def tiny_configs(family: str) -> dict[str, dict[str, Any]]:
    """The released configurations with the least widths and depths that keep every kind of layer."""
    unet = released_config(family, "unet")
    if family == "sdxl":
        unet.update(
            block_out_channels=[32, 64, 64], transformer_layers_per_block=[1, 1, 2], attention_head_dim=[1, 1, 1],
            cross_attention_dim=128, addition_time_embed_dim=8, projection_class_embeddings_input_dim=64 + 6 * 8,
        )  # fmt: skip
    else:
        unet.update(block_out_channels=[32, 64, 64, 64], cross_attention_dim=64)
        unet["attention_head_dim"] = 8 if family == "sd1" else [1, 1, 1, 1]
    vae = released_config(family, "vae")
    vae.update(block_out_channels=[32, 32, 64, 64])
    configs = {"unet": unet, "vae": vae}
    for index in range(len(TEXT_CLASSES[family])):
        part = "text_encoder" if index == 0 else "text_encoder_2"
        text = released_config(family, part)
        text.update(hidden_size=64, intermediate_size=96, num_attention_heads=1, num_hidden_layers=3, projection_dim=64)
        configs[part] = text
    return configs


def tiny_parts(family: str, seed: int = 0) -> Parts:
    """A model of random weights, its own to change; every layer differs, also those that are initialised alike."""
    original = _original(family, seed)
    encoders = [copy.deepcopy(encoder) for encoder in original.text_encoders]
    return replace(
        original, denoiser=copy.deepcopy(original.denoiser), text_encoders=encoders, vae=copy.deepcopy(original.vae)
    )


@functools.lru_cache(maxsize=4)
def _original(family: str, seed: int) -> Parts:
    configs = tiny_configs(family)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_config(configs["unet"])
    vae = AutoencoderKL.from_config(configs["vae"])
    texts = [
        kind(CLIPTextConfig(**configs["text_encoder" if index == 0 else "text_encoder_2"]))
        for index, kind in enumerate(TEXT_CLASSES[family])
    ]
    with torch.no_grad():
        for module in (unet, vae, *texts):
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
            module.requires_grad_(False).eval()
    torch.set_rng_state(state)
    return Parts(family_named(family), unet, texts, load_tokenizers(family), vae)


def modules_of(parts: Parts) -> dict[str, torch.nn.Module]:
    """The modules by the name of their part."""
    found: dict[str, torch.nn.Module] = {"unet": parts.denoiser}
    for part, encoder in zip(("text_encoder", "text_encoder_2"), parts.text_encoders, strict=False):
        found[part] = encoder
    if parts.vae is not None:
        found["vae"] = parts.vae
    return found
