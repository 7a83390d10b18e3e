"""Stable Diffusion 1.x: CLIP ViT-L text encoder, epsilon target, 512 px."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atelier.models.refusals import is_stable_diffusion
from atelier.models.unet.latent_diffusion import OneTextEncoder


class StableDiffusion1(OneTextEncoder):
    """Stable Diffusion 1.1 to 1.5 and everything trained from them."""

    name = "sd1"
    title = "Stable Diffusion 1.x"
    resolution = 512
    latent_scale = 0.18215
    base_model_version = "sd_v1"
    card_version = "SD1"

    def recognise(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """A UNet beside a CLIP text encoder under `cond_stage_model.transformer`."""
        has_text = any(name.startswith("cond_stage_model.transformer.") for name in shapes)
        return has_text and is_stable_diffusion(shapes)

    def architecture(self, prediction_type: str) -> str:
        """modelspec has one name for all of SD1."""
        return "stable-diffusion-v1"


FAMILY = StableDiffusion1()
