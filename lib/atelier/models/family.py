"""What a model family is: how it encodes pictures and captions, calls its denoiser and names its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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
    """The UNet or transformer, which predicts noise or velocity from noisy latents."""
    text_encoders: list[nn.Module] = field(default_factory=list)
    tokenizers: list[Any] = field(default_factory=list)
    vae: nn.Module | None = None
    prediction_type: str = "epsilon"
    """"epsilon" or "v_prediction"; a flow predicts its velocity and reads neither."""
    zero_terminal_snr: bool = False
    computes_on: torch.device | None = None
    """The device on which the denoiser computes, if its weights are kept on another."""

    @property
    def device(self) -> torch.device:
        """The device on which the denoiser computes."""
        return self.computes_on or next(self.denoiser.parameters()).device

    @property
    def modules(self) -> list[nn.Module]:
        """The loaded modules: denoiser, text encoders, VAE."""
        return [module for module in (self.denoiser, *self.text_encoders, self.vae) if module is not None]

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights of all modules."""
        for module in self.modules:
            yield from module.parameters()


@dataclass
class PromptEmbeds:
    """What the denoiser attends to. `hidden`: [B, tokens, channels]; `pooled`: [B, channels], only SDXL."""

    hidden: Tensor
    pooled: Tensor | None = None
    lengths: tuple[int, ...] | None = None
    """The tokens of each caption where they differ; what follows them in `hidden` is filled up. None: all of them."""

    def rows(self) -> list[Tensor]:
        """The states of each caption, [its tokens, channels]."""
        lengths = self.lengths or [self.hidden.shape[1]] * len(self.hidden)
        return [states[:length] for states, length in zip(self.hidden, lengths, strict=True)]


@dataclass
class SizeConditions:
    """SDXL's picture conditions in pixels, each [B, 2] as (height, width) or (top, left)."""

    original: Tensor
    crop: Tensor
    target: Tensor


class TensorSource(Protocol):
    """A file of tensors that is open: `models.checkpoints.tensor_file`."""

    @property
    def shapes(self) -> Mapping[str, Sequence[int]]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def read(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class Flow:
    """The noise of a rectified flow: how its sampler shifts sigma towards noise, sigma = s u / (1 + (s - 1) u).

    With `tokens` the shift s = exp(mu) follows the size of a picture: mu goes in a straight line from the first number
    at the second's count of tokens to the third at the fourth's, as Flux has it: (0.5, 256, 1.15, 4096).
    """

    shift: float = 1.0
    tokens: tuple[float, int, float, int] | None = None
    trained_with: float | None = None
    """The shift of sigma in training; None for the sampler's."""


@dataclass(frozen=True)
class AdaptableBlocks:
    """The names of the classes whose Linear and Conv2d layers get an adapter."""

    denoiser: frozenset[str]
    """Classes that a plain LoRA adapts in the denoiser."""
    convolutions: frozenset[str] = frozenset()
    """Classes that a LoRA with a conv_dim also adapts."""
    text: frozenset[str] = frozenset()


class Family(Protocol):
    """One architecture. Each is a file or folder in `models/families` with a `FAMILY`; there is no list to extend."""

    name: str
    """A word: "sd1", "sd2" or "sdxl"."""
    title: str
    """For people: "Stable Diffusion 1.x"."""
    resolution: int
    """The side in pixels of the pictures that it was trained on."""
    pixel_step: int
    """Pixels of a latent's side."""
    side_step: int
    """Pictures' sides are multiples of it, in pixels: `pixel_step`, times the side of a transformer's patch."""
    latent_channels: int
    flow: Flow | None
    """The noise of a rectified flow; None for the discrete diffusion of DDPM."""
    base_model_version: str
    """kohya's ss_base_model_version."""
    card_version: str
    """The family's name in a LoRA's NAME.json, under "sd version", as WebUIs write it: "SD1"."""
    text_encoder_prefixes: Sequence[str]
    """kohya's name prefixes of the text encoders, in order: ("lora_te",) or ("lora_te1", "lora_te2")."""
    adaptable: AdaptableBlocks

    def recognise(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """True when a checkpoint with these tensor names (as its file has them) and shapes is of this family.

        May raise `IndexError` for a shape of fewer dimensions than any model has. `models.registry.recognise`
        refuses a file that no family recognises, and names it.
        """
        ...

    def architecture(self, prediction_type: str) -> str:
        """The modelspec.architecture of a checkpoint, e.g. "stable-diffusion-v1"."""
        ...

    def load(self, file: TensorSource, wanted: frozenset[str], convert: Callable[[Tensor], Tensor]) -> Parts:
        """The `wanted` of "unet" (the denoiser), "text_encoder" and "vae" of a checkpoint that `recognise` takes.

        `convert` gives each tensor its precision and device. Raises `AtelierError` when the file is not whole.
        """
        ...

    def assumed_prediction(self, parts: Parts) -> str:
        """The prediction_type of a file that does not state one."""
        ...

    def posterior(self, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents [B, C, h, w], float32, for pixels [B, 3, H, W] in -1 … 1.

        As the VAE gives them, before `normalised`; the deviation is 0 where the family takes the mean. They may hold
        NaN where half precision overflows.
        """
        ...

    def normalised(self, latents: Tensor) -> Tensor:
        """The VAE's latents, scaled for the denoiser to a standard deviation near 1."""
        ...

    def denormalised(self, latents: Tensor) -> Tensor:
        """The inverse of `normalised`."""
        ...

    def encode(
        self,
        parts: Parts,
        captions: Sequence[str],
        clip_skip: int | None,
        max_token_length: int,
        weighted: bool = False,
    ) -> PromptEmbeds:
        """Prompt embeddings of captions. `max_token_length` is 75, 150 or 225.

        `clip_skip` None is the family's own layer. Gradients flow if the encoders train.
        """
        ...

    def predict(
        self, parts: Parts, latents: Tensor, times: Tensor, text: PromptEmbeds, sizes: SizeConditions | None
    ) -> Tensor:
        """The denoiser's prediction [B, C, h, w] for noisy latents [B, C, h, w].

        `times` [B]: timesteps 0 … 999 of a discrete diffusion, sigma in 0 … 1 of a flow (which predicts noise - x_0).
        """
        ...

    def units(self, denoiser: nn.Module) -> list[nn.Module]:
        """The blocks that gradient checkpointing computes again and that are streamed, in the order of the modules."""
        ...

    def denoiser_lora_name(self, module_path: str) -> str:
        """The file's name of a denoiser's layer from its path: "mid_block…" -> "lora_unet_mid_block_…"."""
        ...

    def text_lora_name(self, encoder: int, module_path: str) -> str:
        """The file's name of a layer of text encoder number `encoder` (0 or 1), from its path in the module.

        The path may be written with or without `text_model.` (see `models.text.clip_names`).
        """
        ...


@runtime_checkable
class LoadsFolders(Protocol):
    """A family that reads diffusers folders with a transformer by itself."""

    def recognise_folder(self, config: Mapping[str, Any]) -> bool:
        """True for the configuration in the folder's transformer/config.json."""
        ...

    def load_folder(self, folder: Path, wanted: frozenset[str], convert: Callable[[Tensor], Tensor]) -> Parts:
        """The `wanted` of "unet" (the transformer), "text_encoder" and "vae". Raises `AtelierError`."""
        ...


@runtime_checkable
class ReadsOtherNames(Protocol):
    """A family whose modules lie otherwise than those that other programs name in their LoRA files."""

    def own_layer(self, layer: str) -> tuple[str, int, int] | None:
        """Where a layer of a file lies in our model: its name there, and which part of how many, counted from 0.

        None for a name that is looked for as it is. "…attention.to_k" is ("…attention.qkv", 1, 3).
        """
        ...


@runtime_checkable
class HasReleasedShape(Protocol):
    """A family that can build its released model without weights. `run.py gpu` measures every family that can."""

    name: str
    resolution: int

    def empty(self, small: bool = False) -> Parts:
        """The released model with its tokenizers; weights lie on the meta device, computed buffers do not.

        `small`: a stand-in of the same classes that takes a step in a moment on a CPU, for pictures of 32 px.
        """
        ...
