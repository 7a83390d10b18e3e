"""Stable Diffusion XL: two text encoders, a pooled embedding, sizes and crops as conditions, 1024 px."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.models.refusals import is_stable_diffusion
from atelier.models.text.clip_names import canonical
from atelier.models.text.encode import caption_ids, emphasised, hidden_and_pooled, hidden_states
from atelier.models.unet.call import call_unet
from atelier.models.unet.latent_diffusion import LatentDiffusion
from atelier.models.unet.ldm_names import UNET_PREFIX, unet_table

PENULTIMATE = 2


class StableDiffusionXL(LatentDiffusion):
    """SDXL base 1.0 and everything trained from it, noise and v prediction."""

    name = "sdxl"
    title = "Stable Diffusion XL"
    resolution = 1024
    latent_scale = 0.13025
    base_model_version = "sdxl_base_v1-0"
    card_version = "SDXL"
    text_encoder_prefixes: Sequence[str] = ("lora_te1", "lora_te2")

    def __init__(self) -> None:
        self._names = unet_table((False, True, True), 2)

    def recognise(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """A UNet with added conditions beside two text encoders under `conditioner.embedders`."""
        return (
            is_stable_diffusion(shapes)
            and UNET_PREFIX + "label_emb.0.0.weight" in shapes
            and any(name.startswith("conditioner.embedders.0.transformer.") for name in shapes)
            and any(name.startswith("conditioner.embedders.1.model.") for name in shapes)
        )

    def architecture(self, prediction_type: str) -> str:
        """modelspec has one name for all of SDXL's bases."""
        return "stable-diffusion-xl-v1-base"

    def encode(
        self,
        parts: Parts,
        captions: Sequence[str],
        clip_skip: int | None,
        max_token_length: int,
        weighted: bool = False,
    ) -> PromptEmbeds:
        """Prompt embeddings of both encoders side by side [B, 77 | 152 | 227, C1 + C2], and the second's pooled [B, P].

        SDXL was trained on the output of the last layer but one, without the final norm: `clip_skip` None, 1 and 2 all
        mean that layer.
        """
        layer = max(PENULTIMATE, clip_skip or PENULTIMATE)
        ids, weights = caption_ids(parts.tokenizers[0], captions, max_token_length, weighted)
        first = hidden_states(parts.text_encoders[0], ids, layer, final_norm=False)
        ids, weights_2 = caption_ids(parts.tokenizers[1], captions, max_token_length, weighted)
        second, pooled = hidden_and_pooled(parts.text_encoders[1], ids, layer)
        hidden = torch.cat([emphasised(first, weights), emphasised(second, weights_2)], dim=-1)
        return PromptEmbeds(hidden, pooled)

    def predict(
        self, parts: Parts, latents: Tensor, times: Tensor, text: PromptEmbeds, sizes: SizeConditions | None
    ) -> Tensor:
        """The UNet's prediction [B, 4, h, w]. Without `sizes`: whole pictures of the latents' own size."""
        if text.pooled is None:
            raise ValueError("SDXL needs the pooled text embedding")
        if sizes is None:
            pixels = torch.tensor([[8 * latents.shape[2], 8 * latents.shape[3]]] * latents.shape[0])
            sizes = SizeConditions(pixels, torch.zeros_like(pixels), pixels)
        ids = torch.cat([sizes.original, sizes.crop, sizes.target], dim=1).to(latents.device)
        added = {"text_embeds": text.pooled, "time_ids": ids}
        return call_unet(parts.denoiser, latents, times, text.hidden, added)

    def denoiser_lora_name(self, module_path: str) -> str:
        """lora_unet_ and the LDM path with underscores: "down_blocks.1.attentions.0…" is "input_blocks_4_1…"."""
        path = self._names.to_ldm(module_path)
        if path is None:
            raise KeyError(f"{module_path} is not a layer of SDXL's UNet")
        return "lora_unet_" + path.replace(".", "_")

    def text_lora_name(self, encoder: int, module_path: str) -> str:
        """lora_te1_ or lora_te2_ and transformers' path with underscores."""
        return f"{self.text_encoder_prefixes[encoder]}_" + canonical(module_path).replace(".", "_")


FAMILY = StableDiffusionXL()
