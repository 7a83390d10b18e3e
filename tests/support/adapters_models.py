"""Small models with the block structure of SD1, SD2 and SDXL, for the tests of adapters."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from atelier.models.families.sd1 import FAMILY as SD1
from atelier.models.family import Parts
from atelier.models.text.clip_names import canonical
from atelier.models.unet.latent_diffusion import LatentDiffusion
from atelier.models.unet.ldm_names import unet_table

CROSS_DOWN, CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"


def unet(channels: tuple[int, ...] = (8, 16, 32, 32), layers: int = 2, **more: Any) -> nn.Module:
    """A UNet of SD1's structure."""
    config: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": (CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", CROSS_UP, CROSS_UP, CROSS_UP),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    config.update(more)
    return UNet2DConditionModel.from_config(config)


def sdxl_unet() -> nn.Module:
    """A UNet of SDXL's structure: three levels, one, two and ten transformer layers."""
    return unet(
        channels=(8, 16, 32),
        down_block_types=("DownBlock2D", CROSS_DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, CROSS_UP, "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 16,
    )


def text_encoder(layers: int = 2, width: int = 16, projection: bool = False) -> nn.Module:
    """A CLIP text encoder."""
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


class XlNames:
    """SDXL's names, written anew: the UNet under LDM's paths, two text encoders."""

    name = "sdxl"
    text_encoder_prefixes = ("lora_te1", "lora_te2")
    adaptable = LatentDiffusion.adaptable

    def __init__(self) -> None:
        self._table = unet_table((False, True, True), 2)

    def denoiser_lora_name(self, path: str) -> str:
        ldm = self._table.to_ldm(path)
        assert ldm is not None, path
        return "lora_unet_" + ldm.replace(".", "_")

    def text_lora_name(self, encoder: int, path: str) -> str:
        return f"{self.text_encoder_prefixes[encoder]}_" + canonical(path).replace(".", "_")


def sd1_parts(seed: int = 0, dtype: torch.dtype = torch.float32) -> Parts:
    """SD1 in small, with weights that do not depend on other tests."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = Parts(SD1, unet().to(dtype), [text_encoder().to(dtype)])
    for module in (parts.denoiser, *parts.text_encoders):
        module.requires_grad_(False).eval()
    return parts


def predict(parts: Parts, seed: int = 1) -> torch.Tensor:
    """One forward pass of text encoder and UNet on fixed inputs."""
    draw = torch.Generator().manual_seed(seed)
    dtype = next(parts.denoiser.parameters()).dtype
    ids = torch.randint(2, 64, (2, 8), generator=draw)
    latents = torch.randn(2, 4, 8, 8, generator=draw, dtype=torch.float64).to(dtype)
    hidden = parts.text_encoders[0](ids)[0]
    return parts.denoiser(latents, torch.tensor([100, 700]), encoder_hidden_states=hidden).sample
