"""Makes noise as in kohya's scripts: Gaussian, with an offset, pyramid noise, and perturbed for the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.models.transfer import to_device

TIMESTEPS = 1000
"""Number of timesteps of a discrete diffusion."""


@dataclass(frozen=True)
class NoiseOptions:
    """kohya's options for the noise. With the defaults it is plain Gaussian noise."""

    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False


def draw_noise(latents: Tensor, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """Noise [B, C, h, w] for `latents`, in float32 on their device. The random numbers are made on the CPU."""
    noise = torch.randn(latents.shape, generator=generator)
    if options.noise_offset:
        strength = options.noise_offset
        if options.noise_offset_random_strength:
            strength = strength * torch.rand(1, generator=generator).item()
        noise = _offset(noise, latents, strength, options.adaptive_noise_scale, generator)
    if options.multires_noise_iterations:
        noise = _pyramid(noise, options, generator)
    return to_device(noise, latents.device)


def draw_input_noise(noise: Tensor, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """The noise for the UNet's input: `noise` perturbed by gamma (Ning et al. 2023). The target is still `noise`."""
    if not options.ip_noise_gamma:
        return noise
    gamma = options.ip_noise_gamma
    if options.ip_noise_gamma_random_strength:
        gamma = gamma * torch.rand(1, generator=generator).item()
    return noise + gamma * to_device(torch.randn(noise.shape, generator=generator), noise.device)


def _offset(
    noise: Tensor, latents: Tensor, strength: float, adaptive_scale: float, generator: torch.Generator
) -> Tensor:
    """Adds a constant per picture and channel, so that very dark and very bright pictures can be learned."""
    amount: Tensor | float = strength
    if adaptive_scale:
        mean = latents.float().mean(dim=(2, 3), keepdim=True).abs().cpu()
        amount = (strength + adaptive_scale * mean).clamp(min=0.0)
    return noise + amount * torch.randn(noise.shape[0], noise.shape[1], 1, 1, generator=generator)


def _pyramid(noise: Tensor, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """Adds layers of coarser noise, each weaker by the discount, and scales the sum to a standard deviation of 1."""
    batch, channels, height, width = noise.shape
    for level in range(options.multires_noise_iterations):
        ratio = float(torch.rand(1, generator=generator).item()) * 2 + 2
        h, w = max(1, int(height / ratio**level)), max(1, int(width / ratio**level))
        coarse = torch.randn(batch, channels, h, w, generator=generator)
        coarse = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        noise = noise + coarse * options.multires_noise_discount**level
        if h == 1 or w == 1:
            break
    return noise / noise.std()
