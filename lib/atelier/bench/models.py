"""Models for measurements: the demo base, and released models with random weights, as only shapes cost time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier.hosts.embedded.host import DEMO_BASE, EmbeddedHost, LoadedModel
from atelier.models.assets import load_tokenizers, released_config
from atelier.models.family import Parts
from atelier.models.registry import family_named
from atelier.models.views.view import build_empty


@dataclass(frozen=True)
class Shape:
    """A model to measure on and the side of its pictures in pixels."""

    name: str
    family: str
    side: int
    unet: dict[str, Any] | None = None
    """Changes to the released UNet's configuration; None takes the demo base instead."""


SHAPES = {
    "demo": Shape("demo", "sd1", 64),
    "sd15": Shape("sd15", "sd1", 256, {}),
    "sdxl": Shape("sdxl", "sdxl", 256, {"transformer_layers_per_block": [1, 1, 2]}),
}
"""sdxl has the released widths with fewer transformer blocks: 2.6 billion weights do not fit a small machine twice."""


def loaded_host(shape: Shape, folder: Path) -> EmbeddedHost:
    """An embedded host that has the model in memory."""
    if shape.unet is None:
        return EmbeddedHost(folder, DEMO_BASE, device="cpu")
    host = EmbeddedHost(folder, device="cpu", demo_base=None)
    host.current = LoadedModel(shape.name, folder / shape.name, f"bench-{shape.name}", random_parts(shape), shape.side)
    return host


def random_parts(shape: Shape) -> Parts:
    """A model of released shapes, float32, with small random weights."""
    unet = _filled(UNet2DConditionModel, {**released_config(shape.family, "unet"), **(shape.unet or {})})
    encoders = [_filled(CLIPTextModel, released_config(shape.family, "text_encoder"))]
    if shape.family == "sdxl":
        encoders.append(_filled(CLIPTextModelWithProjection, released_config(shape.family, "text_encoder_2")))
    vae = _filled(AutoencoderKL, released_config(shape.family, "vae"))
    return Parts(family_named(shape.family), unet, encoders, load_tokenizers(shape.family), vae)


def _filled(kind: type[nn.Module], config: dict[str, Any]) -> nn.Module:
    module = build_empty(kind, config).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.02, generator=generator)
        for name, buffer in module.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return module.eval().requires_grad_(False)
