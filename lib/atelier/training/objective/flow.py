"""Rectified flow (Liu et al. 2022, arXiv:2209.03003): a straight line from the picture to the noise.

x_sigma = (1 - sigma) x_0 + sigma eps, and the denoiser predicts the line's direction, eps - x_0. How often each sigma
is trained is a named distribution of u in 0 … 1 and a shift of it towards noise, sigma = s u / (1 + (s - 1) u), both
as in Esser et al. 2024 (arXiv:2403.03206, sections 3.1 and 5.3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atelier.models.family import Flow

DISTRIBUTIONS = ("uniform", "sigmoid", "shift")
"""kohya's timestep_sampling: u uniform; u = sigmoid(scale n) with n normal; the same, shifted."""


def shift_for(flow: Flow, tokens: int) -> float:
    """s for a picture of `tokens` patches: the family's constant, or exp(mu) on its line (see `Flow.tokens`)."""
    if flow.tokens is None:
        return flow.shift
    low, few, high, many = flow.tokens
    return math.exp(low + (high - low) * (tokens - few) / (many - few))


def shifted(u: Tensor, shift: float) -> Tensor:
    """sigma = s u / (1 + (s - 1) u)."""
    return shift * u / (1.0 + (shift - 1.0) * u)


@dataclass
class RectifiedFlow:
    """Implements `process.NoiseProcess`: times are sigma, float32 in 0 … 1; the target is eps - x_0.

    `distribution` is one of `DISTRIBUTIONS`; only "shift" moves u towards noise, by `shift`, None for the family's own.
    `lowest` and `highest` cut the range of u, as min_timestep and max_timestep do in thousandths.
    """

    flow: Flow
    distribution: str = "shift"
    scale: float = 1.0
    shift: float | None = None
    lowest: float = 0.0
    highest: float = 1.0

    validation_times: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5, 0.7, 0.9)
    predicts_velocity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"{self.distribution!r} is no distribution of sigma; there are {', '.join(DISTRIBUTIONS)}")

    def sample_times(self, count: int, tokens: int, generator: torch.Generator) -> Tensor:
        """sigma [count], float32, never 0: there is nothing to learn from a picture without noise."""
        if self.distribution == "uniform":
            u = torch.rand(count, generator=generator)
        else:
            u = torch.sigmoid(self.scale * torch.randn(count, generator=generator))
        u = self.lowest + (self.highest - self.lowest) * u
        if self.distribution == "shift":
            u = shifted(u, shift_for(self.flow, tokens) if self.shift is None else self.shift)
        return u.clamp(min=1e-4, max=1.0)

    def fixed_times(self, time: float, count: int, device: torch.device) -> Tensor:
        return torch.full((count,), float(time), device=device)

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_sigma for x_0 and eps."""
        sigma = times[:, None, None, None]
        return (1.0 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """eps - x_0, the same at every sigma."""
        return noise - latents

    def snr(self, times: Tensor) -> Tensor:
        """((1 - sigma) / sigma)^2, [B]."""
        return ((1.0 - times) / times) ** 2

    def noise_to_signal(self, times: Tensor) -> Tensor:
        """sigma / (1 - sigma), [B]."""
        return times / (1.0 - times)

    def thousandths(self, times: Tensor) -> Tensor:
        """1000 sigma, [B] float32."""
        return 1000.0 * times
