"""Keeps the last weights that gave a finite loss, so that a run which diverges can end with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from atelier.training.norms import all_finite


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
