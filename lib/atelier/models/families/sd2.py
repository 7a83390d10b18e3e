"""Stable Diffusion 2.x: OpenCLIP ViT-H text encoder without its last layer, epsilon (512 px) or v target (768 px)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atelier.models.checkpoints.prediction import measured_prediction
from atelier.models.family import Parts
from atelier.models.refusals import is_stable_diffusion
from atelier.models.unet.latent_diffusion import OneTextEncoder


class StableDiffusion2(OneTextEncoder):
    """Stable Diffusion 2.0 and 2.1, base and v.

    The model was trained on the state before the encoder's last layer. Its module is built without that layer, so
    `clip_skip` None is the state it was trained on.
    """

    name = "sd2"
    title = "Stable Diffusion 2.x"
    resolution = 768
    latent_scale = 0.18215
    base_model_version = "sd_v2"
    card_version = "SD2"

    def recognise(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """A UNet beside an OpenCLIP text encoder under `cond_stage_model.model`."""
        has_text = "cond_stage_model.model.token_embedding.weight" in shapes
        return has_text and is_stable_diffusion(shapes)

    def assumed_prediction(self, parts: Parts) -> str:
        """Measured, since there are both kinds of 2.0 and 2.1, and their files do not say which they are."""
        return measured_prediction(parts)

    def architecture(self, prediction_type: str) -> str:
        """modelspec tells the v models from the others by their resolution."""
        return "stable-diffusion-v2-768-v" if prediction_type == "v_prediction" else "stable-diffusion-v2-512"


FAMILY = StableDiffusion2()
