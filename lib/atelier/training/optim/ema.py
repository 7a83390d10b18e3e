"""A moving average (EMA) of the trained weights, in float32 in CPU memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.training.optim.norms import all_finite

EVERY_ON_GPU = 10
"""Steps between two updates with weights on a GPU, since fetching all of them takes longer than a small step."""


class Average:
    """The average: mean <- d * mean + (1 - d) * weight after every step, with d growing from 0.1 to `decay`.

    After n steps d is at most (1 + n) / (10 + n), so that the average of a short run does not keep its start.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self._named = dict(named)
        self._decay = decay
        on_gpu = any(parameter.device.type != "cpu" for parameter in self._named.values())
        self.every = EVERY_ON_GPU if on_gpu else 1
        self._mean = {name: _copied(parameter) for name, parameter in self._named.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the weights after step number `step` (from 1) to the average. NaN and infinite weights are skipped."""
        if step % self.every or not all_finite(self._named.values()):
            return
        decay = min(self._decay, (1 + step) / (10 + step)) ** self.every
        for name, parameter in self._named.items():
            self._mean[name].lerp_(parameter.detach().to(device="cpu", dtype=torch.float32), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replaces the weights by the average inside the block. Afterwards they are as before, bit for bit."""
        kept: dict[str, Tensor] = {}
        try:
            with torch.no_grad():
                for name, parameter in self._named.items():
                    kept[name] = parameter.detach().to("cpu", copy=True)
                    parameter.copy_(self._mean[name])
            yield
        finally:
            with torch.no_grad():
                for name, tensor in kept.items():
                    self._named[name].copy_(tensor)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors for a state to resume from."""
        return dict(self._mean)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`. Raises `AtelierError` when they are of other weights."""
        if set(tensors) != set(self._mean):
            raise AtelierError("The saved weight average belongs to other weights. Start a new run.")
        for name, tensor in tensors.items():
            self._mean[name].copy_(tensor)


def _copied(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().to(device="cpu", dtype=torch.float32, copy=True)
