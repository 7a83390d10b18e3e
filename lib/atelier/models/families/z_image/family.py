"""What Z-Image is to the rest of the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.models.families.z_image import files
from atelier.models.families.z_image.names import own_layer, own_path, prefix_of
from atelier.models.families.z_image.text import caption_states
from atelier.models.family import AdaptableBlocks, Flow, Parts, PromptEmbeds, SizeConditions, TensorSource
from atelier.models.unet.call import weight_dtype
from atelier.models.unet.latent_diffusion import posterior_of


class ZImage:
    """Z-Image Base and Turbo, which have the same tensors (a file does not tell which of them it is).

    The transformer sees 1 - sigma as its time and predicts x_0 - eps, so its output is turned round.
    """

    name = "z_image"
    title = "Z-Image"
    resolution = 1024
    pixel_step = 8
    side_step = 16
    latent_channels = 16
    latent_scale, latent_shift = 0.3611, 0.1159
    flow: Flow | None = Flow(shift=3.0, trained_with=2.0)
    base_model_version = "z_image"
    card_version = "Z-Image"
    text_encoder_prefixes: Sequence[str] = ()
    adaptable = AdaptableBlocks(denoiser=frozenset({"FusedAttention", "MainFeedForward"}))

    def recognise(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """A transformer with the family's two embedders and padding tokens, under the file's own names."""
        return prefix_of(shapes) is not None

    def recognise_folder(self, config: Mapping[str, Any]) -> bool:
        """See `models.family.LoadsFolders`."""
        return config.get("_class_name") == "ZImageTransformer2DModel" and config.get("siglip_feat_dim") is None

    def architecture(self, prediction_type: str) -> str:
        """ComfyUI's and modelspec's word."""
        return "z-image"

    def load(self, file: TensorSource, wanted: frozenset[str], convert: Callable[[Tensor], Tensor]) -> Parts:
        """The transformer of a single file. Raises `AtelierError` when more is wanted, which only a folder has."""
        if wanted - {"unet"}:
            raise AtelierError(
                "It is a single file of Z-Image, of which only the transformer can be read. To train it, load a "
                "diffusers folder with transformer, text_encoder, tokenizer and vae in it."
            )
        return Parts(self, files.transformer_from_file(file, convert), prediction_type="v_prediction")

    def load_folder(self, folder: Path, wanted: frozenset[str], convert: Callable[[Tensor], Tensor]) -> Parts:
        """See `models.family.LoadsFolders`."""
        text = "text_encoder" in wanted
        return Parts(
            self,
            files.transformer_from_folder(folder, convert),
            [files.text_from_folder(folder, convert)] if text else [],
            [files.tokenizer_from_folder(folder)] if text else [],
            files.vae_from_folder(folder, convert) if "vae" in wanted else None,
            prediction_type="v_prediction",
        )

    def assumed_prediction(self, parts: Parts) -> str:
        """A flow's velocity; nothing reads it."""
        return "v_prediction"

    def posterior(self, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.family.Family.posterior`."""
        return posterior_of(vae, pixels)

    def normalised(self, latents: Tensor) -> Tensor:
        """(z - shift) scale."""
        return (latents - self.latent_shift) * self.latent_scale

    def denormalised(self, latents: Tensor) -> Tensor:
        """z / scale + shift."""
        return latents / self.latent_scale + self.latent_shift

    def encode(
        self,
        parts: Parts,
        captions: Sequence[str],
        clip_skip: int | None,
        max_token_length: int,
        weighted: bool = False,
    ) -> PromptEmbeds:
        """Qwen3's states; `clip_skip`, `max_token_length` and `weighted` are Stable Diffusion's."""
        return caption_states(parts.text_encoders[0], parts.tokenizers[0], captions)

    def predict(
        self, parts: Parts, latents: Tensor, times: Tensor, text: PromptEmbeds, sizes: SizeConditions | None
    ) -> Tensor:
        """noise - x_0 for latents [B, 16, h, w] with even sides. What a caption is filled up with is not seen."""
        dtype = weight_dtype(parts.denoiser)
        pictures = list(latents.to(dtype).unsqueeze(2).unbind(0))
        states = [row.to(dtype) for row in text.rows()]
        found = parts.denoiser(pictures, 1.0 - times.float(), states, return_dict=False)[0]
        return -torch.stack(list(found)).squeeze(2).to(latents.dtype)

    def units(self, denoiser: nn.Module) -> list[nn.Module]:
        """The refiners' and the main blocks."""
        from atelier.models.families.z_image.transformer import blocks_of

        return blocks_of(denoiser)

    def denoiser_lora_name(self, module_path: str) -> str:
        """lora_unet_ and the file's own path: "layers.0.attention.qkv" is "lora_unet_layers_0_attention_qkv"."""
        return "lora_unet_" + own_path(module_path).replace(".", "_")

    def text_lora_name(self, encoder: int, module_path: str) -> str:
        """The text encoder is never trained; this is the name that WebUIs would read."""
        return "lora_te_" + module_path.replace(".", "_")

    def own_layer(self, layer: str) -> tuple[str, int, int] | None:
        """See `models.family.ReadsOtherNames`."""
        return own_layer(layer)


FAMILY = ZImage()
