"""Rectified flow (Liu et al. 2022, arXiv:2209.03003): a straight line from the picture to the noise.

x_sigma = (1 - sigma) x_0 + sigma eps, and the denoiser predicts the line's direction, eps - x_0. How often each sigma
is trained, and how much it counts, is in `sigmas`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from atelier.models.family import Flow
from atelier.training.objective.sigmas import SMALLEST, SigmaOptions, sample_sigmas, sigma_weights

PREDICTION_TYPES = ("raw", "additive", "sigma_scaled")
"""kohya's model_prediction_type."""


@dataclass
class RectifiedFlow:
    """Implements `process.NoiseProcess`: times are sigma, float32 in 0 … 1; the target is eps - x_0.

    `lowest` and `highest` are the range of sigma that is trained, as min_timestep and max_timestep in thousandths: all
    of 0 … 1 is scaled to it, as musubi does, after the shift.
    """

    flow: Flow
    sigmas: SigmaOptions = field(default_factory=SigmaOptions)
    prediction: str = "raw"
    lowest: float = 0.0
    highest: float = 1.0

    validation_times: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5, 0.7, 0.9)
    predicts_velocity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTION_TYPES:
            raise ValueError(f"{self.prediction!r} is no prediction type; there are {', '.join(PREDICTION_TYPES)}")

    def sample_times(self, count: int, tokens: int, generator: torch.Generator) -> Tensor:
        """sigma [count], float32, never 0."""
        found = sample_sigmas(self.flow, self.sigmas, count, tokens, generator)
        return (self.lowest + (self.highest - self.lowest) * found).clamp(min=SMALLEST, max=1.0)

    def fixed_times(self, time: float, count: int, device: torch.device) -> Tensor:
        return torch.full((count,), float(time), device=device)

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_sigma for x_0 and eps."""
        sigma = times[:, None, None, None]
        return (1.0 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """eps - x_0, the same at every sigma."""
        return noise - latents

    def compared(
        self, prediction: Tensor, noisy: Tensor, latents: Tensor, noise: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The prediction p and its target eps - x_0; with another `prediction` as sd-scripts reads p.

        "additive": p + x_sigma against eps - x_0, for a model that was made so. "sigma_scaled": the clean picture that
        p means, x_sigma - sigma p, against x_0, as sd-scripts' SD3 has it (its Flux script compares the same with
        eps - x_0, which no model predicts).
        """
        if self.prediction == "additive":
            return prediction.float() + noisy, self.target(latents, noise, times)
        if self.prediction == "sigma_scaled":
            return noisy - times[:, None, None, None] * prediction.float(), latents
        return prediction, self.target(latents, noise, times)

    def weights(self, times: Tensor) -> Tensor | None:
        """What weighting_scheme makes of sigma."""
        return sigma_weights(self.sigmas, times)

    def snr(self, times: Tensor) -> Tensor:
        """((1 - sigma) / sigma)^2, [B]."""
        return ((1.0 - times) / times) ** 2

    def noise_to_signal(self, times: Tensor) -> Tensor:
        """sigma / (1 - sigma), [B]."""
        return times / (1.0 - times)

    def thousandths(self, times: Tensor) -> Tensor:
        """1000 sigma, [B] float32."""
        return 1000.0 * times
