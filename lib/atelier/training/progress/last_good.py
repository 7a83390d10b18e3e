"""Keeps a copy of the last good weights (with a finite loss), so that a run that diverges can end with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from atelier.training.optim.norms import all_finite
from atelier.training.progress.step_schedule import Throttle

SHARE = 0.01
"""Largest share of a run's time for checking and copying the weights, which takes long at a high rank."""


class LastGoodWeights:
    """A copy of the trained weights from one of the last times that the loss was read and finite."""

    def __init__(self, parameters: Sequence[nn.Parameter], step: int = 0) -> None:
        self._parameters = list(parameters)
        self._copies = [parameter.detach().clone() for parameter in self._parameters]
        self._step = step
        self._rhythm = Throttle(0.0, share=SHARE)

    @torch.no_grad()
    def remember(self, step: int) -> None:
        """Copies the weights after `step` as good ones, if they are finite. Does nothing soon after the last copy."""
        if not self._rhythm.due():
            return
        with self._rhythm.timed():
            if not all_finite(self._parameters):
                return
            if self._copies:
                torch._foreach_copy_(self._copies, self._parameters)
            self._step = step

    @torch.no_grad()
    def roll_back(self) -> int:
        """Restores the good weights and returns their step."""
        for copy, parameter in zip(self._copies, self._parameters):
            parameter.copy_(copy)
        return self._step
