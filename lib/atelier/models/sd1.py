"""Stable Diffusion 1.x: CLIP ViT-L text encoder, epsilon target, 512 px."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from atelier.models.clip_names import canonical
from atelier.models.family import Parts, SizeConditions, TextStates
from atelier.models.text import hidden_states, token_ids
from atelier.models.unet import call_unet

_UNET = "model.diffusion_model."


class StableDiffusion1:
    """Stable Diffusion 1.1 to 1.5 and everything trained from them."""

    name = "sd1"
    title = "Stable Diffusion 1.x"
    resolution = 512
    latent_scale = 0.18215
    base_model_version = "sd_v1"
    text_encoder_prefixes: Sequence[str] = ("lora_te",)

    def recognise(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """A UNet without added conditions beside a CLIP text encoder under `cond_stage_model.transformer`."""
        if _UNET + "input_blocks.0.0.weight" not in shapes or _UNET + "label_emb.0.0.weight" in shapes:
            return False
        return any(name.startswith("cond_stage_model.transformer.") for name in shapes)

    def architecture(self, prediction_type: str) -> str:
        """modelspec has one name for all of SD1."""
        return "stable-diffusion-v1"

    def encode(
        self,
        parts: Parts,
        captions: Sequence[str],
        clip_skip: int | None,
        max_token_length: int,
        weighted: bool = False,
    ) -> TextStates:
        """Text states [B, 77 | 152 | 227, C]: the `clip_skip`th layer from the end (or the last), normed."""
        ids = token_ids(parts.tokenizers[0], captions, max_token_length)
        return TextStates(hidden_states(parts.text_encoders[0], ids, clip_skip))

    def predict(
        self, parts: Parts, latents: Tensor, timesteps: Tensor, text: TextStates, sizes: SizeConditions | None
    ) -> Tensor:
        """The UNet's prediction [B, 4, h, w]; `sizes` mean nothing to this family."""
        return call_unet(parts.unet, latents, timesteps, text.hidden)

    def unet_lora_name(self, module_path: str) -> str:
        """lora_unet_ and the diffusers path with underscores."""
        return "lora_unet_" + module_path.replace(".", "_")

    def text_lora_name(self, encoder: int, module_path: str) -> str:
        """lora_te_ and transformers' path with underscores."""
        return f"{self.text_encoder_prefixes[encoder]}_" + canonical(module_path).replace(".", "_")


SD1 = StableDiffusion1()
