"""The validation loss: on pictures that are not trained on, always with the same noise and timesteps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from atelier.data.batch import Batch
from atelier.data.dataset import TrainingData
from atelier.data.tensor_cache import TensorCache
from atelier.hosts.contract import Lease
from atelier.training.objective.objective import NoiseSample
from atelier.training.objective.process import NoiseProcess
from atelier.training.randomness import generator


class Validator:
    """Measures the validation loss, with a turn for each batch and timestep."""

    def __init__(
        self,
        data: TrainingData,
        cache: TensorCache,
        lease: Lease,
        losses_of: Callable[[Batch, Callable[[Tensor], NoiseSample]], Tensor],
        process: NoiseProcess,
        seed: int,
        most_batches: int | None,
    ) -> None:
        """`losses_of` returns each picture's loss [B] for a batch and the noise made for its latents."""
        self._data = data
        self._cache = cache
        self._lease = lease
        self._losses_of = losses_of
        self._process = process
        self._seed = seed
        self._batches = min(data.batches_per_epoch, most_batches or data.batches_per_epoch)

    def measure(self) -> float:
        """The mean loss over pictures and timesteps."""
        total, count = 0.0, 0
        for index in range(self._batches):
            batch = self._data.batch(index, self._cache)
            for time in self._process.validation_times:
                with self._lease.turn(), torch.no_grad():  # in this order, since a turn starts with gradients on
                    losses = self._losses_of(batch, partial(self._noise, index, time))
                total += float(losses.sum())
                count += len(losses)
        return total / max(1, count)

    def _noise(self, index: int, time: float, latents: Tensor) -> NoiseSample:
        random = generator(self._seed, "validation", index, time)
        noise = torch.randn(latents.shape, generator=random).to(latents.device)
        return NoiseSample(noise, noise, self._process.fixed_times(time, latents.shape[0], latents.device))
