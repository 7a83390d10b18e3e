"""The forward process of DDPM (Ho et al. 2020) and the ways of choosing noise and timesteps.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, with abar the cumulative product of 1 - beta.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.models.transfer import to_device

TIMESTEPS = 1000


def alphas_cumprod(zero_terminal_snr: bool = False) -> Tensor:
    """abar_t [1000], float32, of Stable Diffusion's scaled linear schedule, beta from 0.00085 to 0.012.

    With `zero_terminal_snr` the schedule is rescaled so that the last step is pure noise (Lin et al. 2023, alg. 1).
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float32) ** 2
    alphas = torch.cumprod(1.0 - betas, dim=0)
    if not zero_terminal_snr:
        return alphas
    root = alphas.sqrt()
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    return root**2


@dataclass
class NoiseSchedule:
    """abar_t on the training device, and what is derived from it. Timesteps are [B] int64, latents [B, C, h, w]."""

    alphas: Tensor

    def __post_init__(self) -> None:
        columns = self.alphas[:, None, None, None]
        self._signal, self._sigma = columns.sqrt(), (1.0 - columns).sqrt()

    @classmethod
    def create(cls, device: torch.device, zero_terminal_snr: bool = False) -> NoiseSchedule:
        return cls(alphas_cumprod(zero_terminal_snr).to(device))

    def _coefficients(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        return self._signal[timesteps], self._sigma[timesteps]

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t for x_0 and eps."""
        signal, sigma = self._coefficients(timesteps)
        return signal * latents + sigma * noise

    def velocity(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans and Ho 2022)."""
        signal, sigma = self._coefficients(timesteps)
        return signal * noise - sigma * latents

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal to noise ratio abar / (1 - abar), [B]."""
        alpha = self.alphas[timesteps]
        return alpha / (1.0 - alpha)

    def huber_threshold(self, timesteps: Tensor) -> Tensor:
        """sqrt(1 - abar) / sqrt(abar), the noise-to-signal amplitude that huber_schedule "snr" uses, [B]."""
        alpha = self.alphas[timesteps]
        return ((1.0 - alpha) / alpha).sqrt()


@dataclass(frozen=True)
class NoiseOptions:
    """kohya's options for the noise; the zeros leave plain Gaussian noise."""

    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False
    min_timestep: int = 0
    max_timestep: int = TIMESTEPS


def draw_timesteps(count: int, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """Timesteps [count], int64, uniform in [min_timestep, max_timestep)."""
    return torch.randint(options.min_timestep, options.max_timestep, (count,), generator=generator)


def draw_noise(latents: Tensor, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """Noise [B, C, h, w] for `latents`, drawn on the processor, given on their device and in float32."""
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
    """The noise that the UNet's input gets: `noise` perturbed by gamma (Ning et al. 2023), the target stays `noise`."""
    if not options.ip_noise_gamma:
        return noise
    gamma = options.ip_noise_gamma
    if options.ip_noise_gamma_random_strength:
        gamma = gamma * torch.rand(1, generator=generator).item()
    return noise + gamma * to_device(torch.randn(noise.shape, generator=generator), noise.device)


def _offset(
    noise: Tensor, latents: Tensor, strength: float, adaptive_scale: float, generator: torch.Generator
) -> Tensor:
    """A constant per picture and channel on top, so that very dark and very bright pictures can be learnt."""
    amount: Tensor | float = strength
    if adaptive_scale:
        mean = latents.float().mean(dim=(2, 3), keepdim=True).abs().cpu()
        amount = (strength + adaptive_scale * mean).clamp(min=0.0)
    return noise + amount * torch.randn(noise.shape[0], noise.shape[1], 1, 1, generator=generator)


def _pyramid(noise: Tensor, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """Noise of several sizes added up, each coarser one weaker by the discount, brought back to unit deviation."""
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
