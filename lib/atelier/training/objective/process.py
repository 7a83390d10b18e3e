"""The interface of a noise process: how a clean picture becomes noise, and what the model shall predict.

A process is a file of its own: `discrete.DiscreteDiffusion`, `flow.RectifiedFlow`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor


class NoiseProcess(Protocol):
    """x_0 is a latent [B, C, h, w], eps its noise, `times` [B] say how far it has gone to noise."""

    validation_times: ClassVar[tuple[float, ...]]
    """The times at which the validation loss is measured, from little noise to much."""

    def sample_times(self, count: int, tokens: int, generator: torch.Generator) -> Tensor:
        """Times [count] for training, drawn on the CPU. `tokens`: the latent's area in patches of 2 by 2."""
        ...

    def fixed_times(self, time: float, count: int, device: torch.device) -> Tensor:
        """[count] times that are all `time`."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t, what the denoiser sees."""
        ...

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the denoiser shall predict from x_t."""
        ...

    def compared(
        self, prediction: Tensor, noisy: Tensor, latents: Tensor, noise: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the loss compares: the prediction and its target, both [B, C, h, w]."""
        ...

    def weights(self, times: Tensor) -> Tensor | None:
        """The process's own factor of each picture's loss, [B]; None where all times count the same."""
        ...

    def snr(self, times: Tensor) -> Tensor:
        """The signal's share of x_t over the noise's, squared, [B], for the weights of losses."""
        ...

    def noise_to_signal(self, times: Tensor) -> Tensor:
        """The noise's amplitude in x_t over the signal's, [B]."""
        ...

    def thousandths(self, times: Tensor) -> Tensor:
        """Where the times lie between clean (0) and noise (1000), [B] float32."""
        ...

    @property
    def predicts_velocity(self) -> bool:
        """True where losses are weighted as those of v-prediction."""
        ...
