"""Draws pictures with a model's modules; the same seed gives the same bits."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.models.autocast import own_precision
from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.models.out_of_memory import is_out_of_memory
from atelier.models.sampling.samplers import SAMPLERS, scheduler_for
from atelier.models.text.encode import needed_length
from atelier.models.unet.call import weight_dtype

__all__ = ["SAMPLERS", "decode", "sample"]

TILE = 512
"""Side of a tile in pixels."""

OnStep = Callable[[int, int, Tensor], None]
"""Called after every step with (steps done, all steps, both over all pictures, latents [1, 4, h, w])."""


@torch.no_grad()
def sample(
    parts: Parts,
    prompts: Sequence[str],
    negatives: Sequence[str],
    width: int,
    height: int,
    steps: int,
    cfg_scale: float,
    seeds: Sequence[int],
    sampler: str = "Euler a",
    clip_skip: int | None = None,
    on_step: OnStep | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Image.Image]:
    """A picture for each prompt, of `width` by `height` pixels (multiples of 8).

    Each picture is drawn alone from its own seed, so it has the same bits however many others are drawn. All noise
    comes from a generator on the CPU; torch's global random numbers are not used. When `should_stop` returns True, the
    pictures finished so far are returned. Raises `AtelierError` for impossible sizes and unknown samplers.
    """
    step, multiple = parts.family.pixel_step, parts.family.side_step
    if width % multiple or height % multiple or min(width, height) < multiple:
        raise AtelierError(
            f"A picture of {width}x{height} cannot be drawn: both sides must be multiples of {multiple}."
        )
    if parts.vae is None or not parts.text_encoders:
        raise AtelierError("Pictures cannot be drawn: the model was taken without its text encoder or its VAE.")
    if steps < 1:
        raise AtelierError(f"The number of sampling steps is {steps}; it must be at least 1.")
    pictures: list[Image.Image] = []
    done = 0
    for prompt, negative, seed in zip(prompts, negatives, seeds, strict=True):
        generator = torch.Generator("cpu").manual_seed(seed)
        scheduler = scheduler_for(parts, sampler)
        scheduler.set_timesteps(steps)
        text = _encode_pair(parts, prompt, negative, clip_skip, cfg_scale)
        noise = torch.randn(1, parts.family.latent_channels, height // step, width // step, generator=generator)
        latents = (noise * float(getattr(scheduler, "init_noise_sigma", 1.0))).to(parts.device)
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        more = {"generator": generator} if takes_generator else {}
        total = len(scheduler.timesteps) * len(prompts)
        for timestep in scheduler.timesteps:
            if should_stop is not None and should_stop():
                return pictures
            scaled = latents if parts.family.flow else scheduler.scale_model_input(latents, timestep)
            prediction = _guided(parts, scaled, timestep, text, cfg_scale, (height, width))
            latents = scheduler.step(prediction, timestep, latents, return_dict=False, **more)[0]
            done += 1
            if on_step is not None:
                on_step(done, total, latents)
        pictures.append(decode(parts, latents)[0])
    return pictures


@torch.no_grad()
def decode(parts: Parts, latents: Tensor) -> list[Image.Image]:
    """Decodes latents [B, 4, h, w] into pictures. If a VAE in half precision overflows, it is run again in float32."""
    if parts.vae is None:
        raise AtelierError("Latents cannot be shown: the model was taken without its VAE.")
    scaled = parts.family.denormalised(latents)
    # Older versions of PyTorch have no half-precision convolutions on the CPU.
    can_be_half = latents.device.type != "cpu" or weight_dtype(parts.vae) != torch.float16
    pixels = _decode(parts.vae, scaled) if can_be_half else None
    if pixels is None or not bool(torch.isfinite(pixels).all()):
        pixels = _decode(copy.deepcopy(parts.vae).float(), scaled)
    levels = ((pixels / 2 + 0.5).clamp(0, 1).nan_to_num() * 255).round().to(torch.uint8)
    return [Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in levels]


def _decode(vae: nn.Module, latents: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] in float32. When memory runs out, they are decoded in overlapping tiles."""
    latents = latents.to(weight_dtype(vae))
    try:
        with own_precision(latents.device):
            return vae.decode(latents, return_dict=False)[0].float()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the except block: its traceback keeps the tensors of the failed try in memory.
    tiled: Any = copy.copy(vae)  # the same weights; the option is set on the copy
    tiled.enable_tiling()
    tiled.tile_sample_min_size, tiled.tile_latent_min_size = TILE, TILE // 8
    with own_precision(latents.device):
        return tiled.decode(latents, return_dict=False)[0].float()


def _encode_pair(parts: Parts, prompt: str, negative: str, clip_skip: int | None, cfg_scale: float) -> PromptEmbeds:
    """Prompt embeddings of (negative, prompt), or of the prompt alone without guidance."""
    captions = [prompt] if cfg_scale == 1 else [negative, prompt]
    length = needed_length(parts.tokenizers, captions)
    return parts.family.encode(parts, captions, clip_skip, length)


def _guided(
    parts: Parts, latents: Tensor, timestep: Tensor, text: PromptEmbeds, cfg_scale: float, size: tuple[int, int]
) -> Tensor:
    """The prediction with classifier-free guidance: negative + cfg_scale * (prompt - negative)."""
    batch = text.hidden.shape[0]
    pixels = torch.tensor([size] * batch, device=latents.device)
    sizes = SizeConditions(pixels, torch.zeros_like(pixels), pixels)
    timesteps = timestep.to(latents.device).reshape(1).expand(batch)
    if parts.family.flow is not None:
        timesteps = timesteps / 1000  # the scheduler counts sigma in thousandths
    prediction = parts.family.predict(parts, latents.expand(batch, -1, -1, -1), timesteps, text, sizes)
    if batch == 1:
        return prediction
    unguided, guided = prediction.chunk(2)
    return unguided + cfg_scale * (guided - unguided)
