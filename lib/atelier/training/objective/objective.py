"""From clean latents to the loss of each picture: the whole diffusion objective in one function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.models.transfer import to_device
from atelier.training.objective.losses import LossOptions, picture_losses
from atelier.training.objective.noise import NoiseOptions, NoiseSchedule, draw_input_noise, draw_noise, draw_timesteps
from atelier.training.randomness import generator


@dataclass
class NoiseSample:
    """The random choices for one batch: noise and input noise [B, C, h, w], timesteps [B]."""

    noise: Tensor
    input_noise: Tensor
    timesteps: Tensor

    def rows(self, start: int, stop: int) -> NoiseSample:
        """The choices of some of the batch's pictures: what one of several processes takes."""
        return NoiseSample(self.noise[start:stop], self.input_noise[start:stop], self.timesteps[start:stop])


def draw(shape: torch.Size, latents: Tensor, options: NoiseOptions, seed: int, *purpose: object) -> NoiseSample:
    """The choices for a whole batch of `shape` [B, C, h, w], from the seed and the purpose alone.

    `latents` gives the device, and its channel means where adaptive_noise_scale asks for them.
    """
    random = generator(seed, *purpose)
    timesteps = draw_timesteps(shape[0], options, random)
    like = latents if latents.shape == shape else latents.new_zeros(1).expand(shape)
    noise = draw_noise(like, options, random)
    return NoiseSample(noise, draw_input_noise(noise, options, random), to_device(timesteps, latents.device))


def diffusion_losses(
    parts: Parts,
    schedule: NoiseSchedule,
    options: LossOptions,
    latents: Tensor,
    draws: NoiseSample,
    text: PromptEmbeds,
    sizes: SizeConditions | None = None,
    masks: Tensor | None = None,
    picture_weights: Tensor | None = None,
) -> Tensor:
    """The weighted loss of each picture, [B] float32.

    `latents` [B, C, h, w] are scaled already. The UNet sees x_t made with the input noise; the target is the noise, or
    the velocity for a v-prediction model.
    """
    noisy = schedule.add_noise(latents, draws.input_noise, draws.timesteps)
    prediction = parts.family.predict(parts, noisy, draws.timesteps, text, sizes)
    if options.prediction_type == "v_prediction":
        target = schedule.velocity(latents, draws.noise, draws.timesteps)
    else:
        target = draws.noise
    return picture_losses(prediction, target, draws.timesteps, schedule, options, masks, picture_weights)
