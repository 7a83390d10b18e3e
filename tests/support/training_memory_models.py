"""A model that is small for a model and large for a test: what it needs stands out from what Python needs."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from atelier.config.job import JobConfig
from atelier.models.assets import load_tokenizers, released_config
from atelier.models.family import Parts
from atelier.models.registry import family_named
from atelier.models.views.attention import use_sound_attention
from atelier.training.context import trains_denoiser, trains_text
from atelier.training.memory.request import Request, configs_of_parts, request_for

SIDE = 256


def parts_to_measure() -> Parts:
    """A UNet of three levels and some 28 million weights, with a small text encoder and VAE."""
    unet = released_config("sd1", "unet")
    unet.update(
        block_out_channels=[96, 192, 384], layers_per_block=1, cross_attention_dim=64,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    )  # fmt: skip
    vae = released_config("sd1", "vae")
    vae.update(block_out_channels=[8] * 4, norm_num_groups=4, layers_per_block=1)
    text = released_config("sd1", "text_encoder")
    text.update(hidden_size=64, intermediate_size=64, num_attention_heads=2, num_hidden_layers=1, projection_dim=64)
    modules = [
        UNet2DConditionModel.from_config(unet), CLIPTextModel(CLIPTextConfig(**text)), AutoencoderKL.from_config(vae),
    ]  # fmt: skip
    for module in modules:
        use_sound_attention(module)
        module.requires_grad_(False).eval()
    return Parts(family_named("sd1"), modules[0], [modules[1]], load_tokenizers("sd1"), modules[2])


def request_to_measure(job: JobConfig) -> Request:
    """What a session on these parts asks for, on the processor in float32."""
    settings = job.settings
    with torch.device("meta"):
        configs = configs_of_parts(parts_to_measure())
    return request_for(
        settings, "sd1", configs, (SIDE, SIDE), settings.train_batch_size, "no",
        trains_denoiser=trains_denoiser(settings), trains_text=trains_text(settings),
    )  # fmt: skip


def pictures_to_measure(folder: Path) -> None:
    """Two pictures of noise."""
    folder.mkdir()
    for number in range(2):
        Image.effect_noise((SIDE, SIDE), 40 + number).convert("RGB").save(folder / f"{number}.png")
