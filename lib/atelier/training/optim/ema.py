"""A moving average of the trained weights, kept in float32 in the processor's memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.training.optim.norms import all_finite

EVERY_ON_GPU = 10
"""Steps from one look at weights on a GPU to the next: fetching all of them takes longer than a small step."""


class Average:
    """mean <- d * mean + (1 - d) * weight after every step, with d growing from 0.1 to `decay` as steps are taken.

    The growth, (1 + n) / (10 + n), lets a short run's average forget its start.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self._named = dict(named)
        self._decay = decay
        on_gpu = any(parameter.device.type != "cpu" for parameter in self._named.values())
        self.every = EVERY_ON_GPU if on_gpu else 1
        self._mean = {name: _copied(parameter) for name, parameter in self._named.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step number `step`, from 1; those that are no numbers are left out."""
        if step % self.every or not all_finite(self._named.values()):
            return
        decay = min(self._decay, (1 + step) / (10 + step)) ** self.every
        for name, parameter in self._named.items():
            self._mean[name].lerp_(parameter.detach().to(device="cpu", dtype=torch.float32), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the weights are the average; afterwards they are themselves, to the bit."""
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
        """What a state keeps."""
        return dict(self._mean)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`. Raises `AtelierError` when they are of other weights."""
        if set(tensors) != set(self._mean):
            raise AtelierError("The saved average belongs to other weights; start the run anew.")
        for name, tensor in tensors.items():
            self._mean[name].copy_(tensor)


def _copied(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().to(device="cpu", dtype=torch.float32, copy=True)
