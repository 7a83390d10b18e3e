"""What SD1 and SD2 have in common: one text encoder, whose states alone condition the UNet, and diffusers' names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.models.text.clip_names import canonical
from atelier.models.text.encode import caption_ids, emphasised, hidden_states
from atelier.models.unet.call import call_unet


class OneTextEncoder:
    """The part of a `Family` that encodes, predicts and names."""

    text_encoder_prefixes: Sequence[str] = ("lora_te",)

    def encode(
        self,
        parts: Parts,
        captions: Sequence[str],
        clip_skip: int | None,
        max_token_length: int,
        weighted: bool = False,
    ) -> PromptEmbeds:
        """Text states [B, 77 | 152 | 227, C]: the `clip_skip`th layer from the end (or the last), normed."""
        ids, weights = caption_ids(parts.tokenizers[0], captions, max_token_length, weighted)
        return PromptEmbeds(emphasised(hidden_states(parts.text_encoders[0], ids, clip_skip), weights))

    def predict(
        self, parts: Parts, latents: Tensor, timesteps: Tensor, text: PromptEmbeds, sizes: SizeConditions | None
    ) -> Tensor:
        """The UNet's prediction [B, 4, h, w]; `sizes` mean nothing to these families."""
        return call_unet(parts.denoiser, latents, timesteps, text.hidden)

    def denoiser_lora_name(self, module_path: str) -> str:
        """lora_unet_ and the diffusers path with underscores."""
        return "lora_unet_" + module_path.replace(".", "_")

    def text_lora_name(self, encoder: int, module_path: str) -> str:
        """lora_te_ and transformers' path with underscores."""
        return f"{self.text_encoder_prefixes[encoder]}_" + canonical(module_path).replace(".", "_")
