"""Keeps the last weights that gave a finite loss, so that a run which diverges can end with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Guard:
    """A copy of the trained weights from the last time the loss was read and finite."""

    def __init__(self, parameters: Sequence[nn.Parameter], step: int = 0) -> None:
        self._parameters = list(parameters)
        self._copies = [parameter.detach().clone() for parameter in self._parameters]
        self._step = step

    @torch.no_grad()
    def remember(self, step: int) -> None:
        """Takes the weights after `step` as good, if they are finite themselves."""
        if not all_finite(self._parameters):
            return
        if self._copies:
            torch._foreach_copy_(self._copies, self._parameters)
        self._step = step

    @torch.no_grad()
    def roll_back(self) -> int:
        """Puts the good weights back and gives the step they are of."""
        for copy, parameter in zip(self._copies, self._parameters):
            parameter.copy_(copy)
        return self._step


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """True when no tensor has a NaN or an infinity in it. Waits once for each device.

    The root of a tensor's squares is neither then: one pass over each, and no copy. Weights beyond 1e19, whose squares
    no float32 can hold, count as spoilt too.
    """
    found: dict[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        if tensor.numel():
            found[tensor.device, tensor.dtype].append(tensor.detach())
    norms = (torch.stack(torch._foreach_norm(each, 2)) for each in found.values())
    return all(bool(torch.isfinite(each).all()) for each in norms)
