"""Keeps the last weights that gave a finite loss, so that a run which diverges can end with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from atelier.training.optim.norms import all_finite
from atelier.training.progress.step_schedule import Throttle

SHARE = 0.01
"""Of a run's time, for looking at the weights and copying them: at a high rank that takes as long as some layers do."""


class LastGoodWeights:
    """A copy of the trained weights from the last time, or one of the last times, that the loss was read and finite."""

    def __init__(self, parameters: Sequence[nn.Parameter], step: int = 0) -> None:
        self._parameters = list(parameters)
        self._copies = [parameter.detach().clone() for parameter in self._parameters]
        self._step = step
        self._rhythm = Throttle(0.0, share=SHARE)

    @torch.no_grad()
    def remember(self, step: int) -> None:
        """Takes the weights after `step` as good, if they are finite themselves; does nothing when it just did."""
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
        """Puts the good weights back and gives the step they are of."""
        for copy, parameter in zip(self._copies, self._parameters):
            parameter.copy_(copy)
        return self._step
