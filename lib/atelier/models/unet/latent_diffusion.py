"""Code common to the Stable Diffusion families: UNet and VAE, and for SD1 and SD2 the single text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from atelier.models.assets import load_tokenizers
from atelier.models.autocast import own_precision
from atelier.models.checkpoints.stated import stated_config
from atelier.models.family import AdaptableBlocks, Flow, Parts, PromptEmbeds, SizeConditions, TensorSource
from atelier.models.text.clip_names import canonical
from atelier.models.text.encode import caption_ids, emphasised, hidden_states
from atelier.models.unet.call import call_unet
from atelier.models.unet.released_shape import released_shape
from atelier.models.unet.vae_encoding import encode, ordered_for
from atelier.models.views.from_ldm import parts_from_weights, weights_from_ldm

UNITS = (BasicTransformerBlock, ResnetBlock2D)
"""Blocks that gradient checkpointing recomputes as a whole. They have nearly all of a UNet's weights."""
CLIP_BLOCKS = frozenset({"CLIPAttention", "CLIPSdpaAttention", "CLIPFlashAttention2", "CLIPMLP"})
"""Blocks of a CLIP text encoder. transformers 4 has a class for each implementation of attention."""


class LatentDiffusion:
    """The part of a `Family` that all of Stable Diffusion shares (Rombach et al. 2022)."""

    pixel_step = 8
    side_step = 8
    latent_channels = 4
    latent_scale: float
    """Factor from the VAE's samples to the UNet's latents."""
    flow: Flow | None = None
    adaptable = AdaptableBlocks(
        denoiser=frozenset({"Transformer2DModel"}),
        convolutions=frozenset({"ResnetBlock2D", "Downsample2D", "Upsample2D"}),
        text=CLIP_BLOCKS,
    )

    def posterior(self, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.family.Family.posterior`."""
        return posterior_of(vae, pixels)

    def normalised(self, latents: Tensor) -> Tensor:
        """Times `latent_scale`."""
        return latents * self.latent_scale

    def denormalised(self, latents: Tensor) -> Tensor:
        """Divided by `latent_scale`."""
        return latents / self.latent_scale

    def load(self: Any, file: TensorSource, wanted: frozenset[str], convert: Callable[[Tensor], Tensor]) -> Parts:
        """The `wanted` parts of a file in the LDM layout. Raises `AtelierError` if the file is not complete."""
        weights = weights_from_ldm(
            self, file.shapes, lambda key: convert(file.read(key)), wanted, stated_config(file.metadata)
        )
        for tensors in weights.tensors.values():
            # The transposed projection is made contiguous, so that products round as with a diffusers folder.
            tensors.update({name: tensor.contiguous() for name, tensor in tensors.items()})
        return parts_from_weights(self, weights, load_tokenizers(self.name))

    def empty(self: Any, small: bool = False) -> Parts:
        """See `models.family.HasReleasedShape.empty`."""
        return released_shape(self, small)

    def assumed_prediction(self, parts: Parts) -> str:
        """ "epsilon": nearly every file without a stated prediction type predicts noise."""
        return "epsilon"

    def units(self, denoiser: nn.Module) -> list[nn.Module]:
        """Transformer blocks and residual blocks."""
        return units_of(denoiser)


def posterior_of(vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """See `models.family.Family.posterior`, for an AutoencoderKL."""
    parameter = next(vae.parameters())
    with own_precision(parameter.device):
        found = encode(vae, ordered_for(parameter.device, pixels.to(parameter.device, parameter.dtype)))
    return found.mean.float(), found.std.float()


def units_of(unet: nn.Module) -> list[nn.Module]:
    """A UNet's blocks for streaming, in the order of the modules."""
    return [module for module in unet.modules() if isinstance(module, UNITS)]


class OneTextEncoder(LatentDiffusion):
    """The part of a `Family` with one text encoder as the UNet's only condition, and with diffusers' names."""

    text_encoder_prefixes: Sequence[str] = ("lora_te",)

    def encode(
        self,
        parts: Parts,
        captions: Sequence[str],
        clip_skip: int | None,
        max_token_length: int,
        weighted: bool = False,
    ) -> PromptEmbeds:
        """Prompt embeddings [B, 77 | 152 | 227, C]: the `clip_skip`th layer from the end (or the last), normed."""
        ids, weights = caption_ids(parts.tokenizers[0], captions, max_token_length, weighted)
        return PromptEmbeds(emphasised(hidden_states(parts.text_encoders[0], ids, clip_skip), weights))

    def predict(
        self, parts: Parts, latents: Tensor, times: Tensor, text: PromptEmbeds, sizes: SizeConditions | None
    ) -> Tensor:
        """The UNet's prediction [B, 4, h, w]. These families do not use `sizes`."""
        return call_unet(parts.denoiser, latents, times, text.hidden)

    def denoiser_lora_name(self, module_path: str) -> str:
        """lora_unet_ and the diffusers path with underscores."""
        return "lora_unet_" + module_path.replace(".", "_")

    def text_lora_name(self, encoder: int, module_path: str) -> str:
        """lora_te_ and transformers' path with underscores."""
        return f"{self.text_encoder_prefixes[encoder]}_" + canonical(module_path).replace(".", "_")
