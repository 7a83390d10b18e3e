"""The forward process of DDPM (Ho et al. 2020), as Stable Diffusion has it.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, with abar the cumulative product of 1 - beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atelier.training.objective.noise import TIMESTEPS

SMALLEST_SNR = 1e-8
"""In place of the 0 of a schedule that ends in pure noise."""


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
class DiscreteDiffusion:
    """Implements `process.NoiseProcess`: 1000 timesteps, int64; the target is the noise, or v.

    `alphas` is abar_t [1000] on the training device. Training draws from [min_timestep, max_timestep). The SNR that
    weights losses is that of `weighted_alphas`, None for `alphas`.
    """

    alphas: Tensor
    prediction_type: str = "epsilon"
    min_timestep: int = 0
    max_timestep: int = TIMESTEPS
    weighted_alphas: Tensor | None = None

    validation_times: ClassVar[tuple[float, ...]] = (100, 300, 500, 700, 900)

    def __post_init__(self) -> None:
        columns = self.alphas[:, None, None, None]
        self._signal, self._sigma = columns.sqrt(), (1.0 - columns).sqrt()

    @classmethod
    def create(
        cls,
        device: torch.device,
        zero_terminal_snr: bool = False,
        prediction_type: str = "epsilon",
        min_timestep: int = 0,
        max_timestep: int = TIMESTEPS,
        snr_after_rescaling: bool = False,
    ) -> DiscreteDiffusion:
        """The process of a model that predicts `prediction_type`, "epsilon" or "v_prediction".

        With `zero_terminal_snr`, sd-scripts weights losses by the SNR of the schedule before it is rescaled (it
        computes all_snr first). The formulas of min-SNR and its kin mean that of the schedule that is trained with,
        which `snr_after_rescaling` takes.
        """
        alphas = alphas_cumprod(zero_terminal_snr).to(device)
        weighted = alphas if snr_after_rescaling or not zero_terminal_snr else alphas_cumprod().to(device)
        return cls(alphas, prediction_type, min_timestep, max_timestep, weighted)

    @property
    def predicts_velocity(self) -> bool:
        return self.prediction_type == "v_prediction"

    def sample_times(self, count: int, tokens: int, generator: torch.Generator) -> Tensor:
        """Timesteps [count], int64, uniform in [min_timestep, max_timestep)."""
        return torch.randint(self.min_timestep, self.max_timestep, (count,), generator=generator)

    def fixed_times(self, time: float, count: int, device: torch.device) -> Tensor:
        return torch.full((count,), int(time), device=device)

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t for x_0 and eps."""
        return self._signal[times] * latents + self._sigma[times] * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """eps, or v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans and Ho 2022)."""
        if not self.predicts_velocity:
            return noise
        return self._signal[times] * noise - self._sigma[times] * latents

    def compared(
        self, prediction: Tensor, noisy: Tensor, latents: Tensor, noise: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The prediction as it is, and `target`."""
        return prediction, self.target(latents, noise, times)

    def weights(self, times: Tensor) -> None:
        """All timesteps count the same."""

    def snr(self, times: Tensor) -> Tensor:
        """abar / (1 - abar), [B]; at the least a tiny number, since some weights divide by it."""
        alpha = (self.alphas if self.weighted_alphas is None else self.weighted_alphas)[times]
        return (alpha / (1.0 - alpha)).clamp(min=SMALLEST_SNR)

    def noise_to_signal(self, times: Tensor) -> Tensor:
        """sqrt(1 - abar) / sqrt(abar), [B]."""
        alpha = self.alphas[times]
        return ((1.0 - alpha) / alpha).sqrt()

    def thousandths(self, times: Tensor) -> Tensor:
        """t, [B] float32."""
        return times.float()
