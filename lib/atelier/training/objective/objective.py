"""The whole objective in one function, from clean latents to the loss of each picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.models.transfer import to_device
from atelier.training.objective.losses import LossOptions, picture_losses
from atelier.training.objective.noise import NoiseOptions, draw_input_noise, draw_noise
from atelier.training.objective.process import NoiseProcess
from atelier.training.randomness import generator

PATCH = 4
"""Latents in a patch of 2 by 2, a transformer's token."""


@dataclass
class NoiseSample:
    """The random choices for one batch: noise and input noise [B, C, h, w], timesteps [B] (sigma of a flow)."""

    noise: Tensor
    input_noise: Tensor
    timesteps: Tensor

    def rows(self, start: int, stop: int) -> NoiseSample:
        """The choices of some of the batch's pictures: what one of several processes takes."""
        return NoiseSample(self.noise[start:stop], self.input_noise[start:stop], self.timesteps[start:stop])


def sample_noise(
    shape: torch.Size, latents: Tensor, process: NoiseProcess, options: NoiseOptions, seed: int, *purpose: object
) -> NoiseSample:
    """The random choices for a whole batch of `shape` [B, C, h, w]. They depend only on the seed and the purpose.

    `latents` decides the device, and its channel means are used for adaptive_noise_scale.
    """
    random = generator(seed, *purpose)
    timesteps = process.sample_times(shape[0], shape[2] * shape[3] // PATCH, random)
    like = latents if latents.shape == shape else latents.new_zeros(1).expand(shape)
    noise = draw_noise(like, options, random)
    return NoiseSample(noise, draw_input_noise(noise, options, random), to_device(timesteps, latents.device))


def diffusion_losses(
    parts: Parts,
    process: NoiseProcess,
    options: LossOptions,
    latents: Tensor,
    sample: NoiseSample,
    text: PromptEmbeds,
    sizes: SizeConditions | None = None,
    masks: Tensor | None = None,
    picture_weights: Tensor | None = None,
) -> Tensor:
    """The weighted loss of each picture, [B] float32.

    `latents` [B, C, h, w] are normalised already. The denoiser sees x_t made with the input noise; its target is made
    with the plain one.
    """
    noisy = process.add_noise(latents, sample.input_noise, sample.timesteps)
    prediction = parts.family.predict(parts, noisy, sample.timesteps, text, sizes)
    compared, target = process.compared(prediction, noisy, latents, sample.noise, sample.timesteps)
    return picture_losses(compared, target, sample.timesteps, process, options, masks, picture_weights)
