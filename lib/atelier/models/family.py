"""What a model family is: how it encodes prompts, calls its UNet and names its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass
class Parts:
    """The modules of one loaded model. A lease hands these out; their parameters are the host's own tensors.

    `text_encoders` and `tokenizers` have one entry, SDXL has two. Parts that were not asked for are None
    (or an empty list).
    """

    family: Family
    denoiser: nn.Module
    text_encoders: list[nn.Module] = field(default_factory=list)
    tokenizers: list[Any] = field(default_factory=list)
    vae: nn.Module | None = None
    prediction_type: str = "epsilon"
    """"epsilon" or "v_prediction"."""
    zero_terminal_snr: bool = False
    computes_on: torch.device | None = None
    """Where the UNet computes, if it rests elsewhere."""

    @property
    def device(self) -> torch.device:
        """Where the UNet computes."""
        return self.computes_on or next(self.denoiser.parameters()).device

    @property
    def modules(self) -> list[nn.Module]:
        """Those that are there: UNet, text encoders, VAE."""
        return [module for module in (self.denoiser, *self.text_encoders, self.vae) if module is not None]

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights of all modules."""
        for module in self.modules:
            yield from module.parameters()


@dataclass
class PromptEmbeds:
    """What the UNet attends to. `hidden`: [B, tokens, channels]; `pooled`: [B, channels], only SDXL."""

    hidden: Tensor
    pooled: Tensor | None = None


@dataclass
class SizeConditions:
    """SDXL's picture conditions in pixels, each [B, 2] as (height, width) or (top, left)."""

    original: Tensor
    crop: Tensor
    target: Tensor


class Family(Protocol):
    """One architecture. Each lives in a file of its own; `models.families` lists them."""

    name: str
    """"sd1", "sd2" or "sdxl"."""
    title: str
    """For people: "Stable Diffusion 1.x"."""
    resolution: int
    """The side in pixels that it was trained at."""
    latent_scale: float
    """Latents are the VAE's sample times this."""
    base_model_version: str
    """kohya's ss_base_model_version."""
    text_encoder_prefixes: Sequence[str]
    """kohya's name prefixes of the text encoders, in order: ("lora_te",) or ("lora_te1", "lora_te2")."""

    def recognise(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """True when a checkpoint with these tensor names (LDM layout) and shapes is of this family.

        Raises nothing: what cannot be trained is refused, with its name, by `models.families.recognise`.
        """
        ...

    def architecture(self, prediction_type: str) -> str:
        """The modelspec.architecture of a checkpoint, e.g. "stable-diffusion-v1"."""
        ...

    def encode(
        self,
        parts: Parts,
        captions: Sequence[str],
        clip_skip: int | None,
        max_token_length: int,
        weighted: bool = False,
    ) -> PromptEmbeds:
        """Text states of captions. `max_token_length` is 75, 150 or 225.

        `clip_skip` None is the family's own layer. Gradients flow if the encoders train.
        """
        ...

    def predict(
        self, parts: Parts, latents: Tensor, timesteps: Tensor, text: PromptEmbeds, sizes: SizeConditions | None
    ) -> Tensor:
        """The UNet's prediction [B, 4, h, w] for noisy latents [B, 4, h, w] at timesteps [B]."""
        ...

    def denoiser_lora_name(self, module_path: str) -> str:
        """kohya's name of a UNet layer from its diffusers path: "mid_block…" -> "lora_unet_mid_block_…"."""
        ...

    def text_lora_name(self, encoder: int, module_path: str) -> str:
        """kohya's name of a layer of text encoder number `encoder` (0 or 1), from its path in the module.

        The path may be written with or without `text_model.` (see `models.clip_names`).
        """
        ...
