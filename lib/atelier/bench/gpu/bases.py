"""Bases of the released shapes with random weights, made on the device: nothing is downloaded.

On a CPU each has a small stand-in of the same family.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier.bench.gpu.machine import Machine
from atelier.hosts.embedded.host import EmbeddedHost, LoadedModel
from atelier.models.assets import load_tokenizers, released_config
from atelier.models.family import Parts
from atelier.models.registry import family_named
from atelier.models.views.view import build_empty

SMALL_SIDE = 32
"""Pixels of a picture's side on a CPU."""
_SMALL_UNET = {
    "block_out_channels": [16, 32], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1, "norm_num_groups": 8,
}  # fmt: skip
_SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2,
               "projection_dim": 32}  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A model to train on, and the side of its pictures in pixels."""

    name: str
    family: str
    side: int

    def on(self, machine: Machine, folder: Path, dtype: torch.dtype) -> EmbeddedHost:
        """A host that has it loaded, in `dtype`, on the machine's device. `folder` takes what a run writes."""
        host = EmbeddedHost(folder, device=machine.device, demo_base=None)
        parts = self._parts(machine.device, dtype, small=not machine.is_gpu)
        host.current = LoadedModel(self.name, folder / self.name, f"random {self.name} {dtype}", parts, self.side)
        host.dtype = dtype
        return host

    def side_on(self, machine: Machine) -> int:
        return self.side if machine.is_gpu else SMALL_SIDE

    def _parts(self, device: torch.device, dtype: torch.dtype, small: bool) -> Parts:
        two = self.family == "sdxl"
        unet, vae = released_config(self.family, "unet"), released_config(self.family, "vae")
        texts = [released_config(self.family, "text_encoder")]
        if two:
            texts.append(released_config(self.family, "text_encoder_2"))
        if small:
            width = 32 * len(texts)
            unet |= {**_SMALL_UNET, "cross_attention_dim": width, "attention_head_dim": [2, 4] if two else 4}
            if two:
                unet |= {
                    "transformer_layers_per_block": [1, 1], "addition_time_embed_dim": 8,
                    "projection_class_embeddings_input_dim": 32 + 6 * 8,
                }  # fmt: skip
            vae |= {"block_out_channels": [8] * 4, "norm_num_groups": 4, "layers_per_block": 1}
            texts = [{**text, **_SMALL_TEXT} for text in texts]
        kinds = (CLIPTextModel, CLIPTextModelWithProjection)
        return Parts(
            family_named(self.family),
            _random(UNet2DConditionModel, unet, device, dtype),
            [_random(kind, text, device, dtype) for kind, text in zip(kinds, texts)],
            load_tokenizers(self.family),
            _random(AutoencoderKL, vae, device, dtype),
        )


SD15 = Base("sd15", "sd1", 512)
SDXL = Base("sdxl", "sdxl", 1024)


def _random(kind: type[nn.Module], config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Weights that keep the size of what goes through them: norms of 1, others of 1/sqrt of their inputs."""
    module = build_empty(kind, config)
    nn.Module.to(module, dtype=dtype)  # diffusers' own warns of modules that this kind of model has none of
    module = module.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            else:
                parameter.normal_(0.0, 1 / math.sqrt(parameter[0].numel()), generator=generator)
        for name, buffer in module.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return module.eval().requires_grad_(False)
