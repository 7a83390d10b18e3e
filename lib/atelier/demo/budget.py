"""CPU time as the measure of training: a stage learns for so many seconds and knows how far it has come."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

Report = Callable[[str], None]
"""Takes a sentence about how the work goes."""


class Budget:
    """CPU seconds (of this process, all threads together) that a stage may use."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.process_time()

    def used(self) -> float:
        """CPU seconds since the stage began."""
        return time.process_time() - self._start

    def progress(self) -> float:
        """How much of the budget is used, 0…1."""
        return min(1.0, self.used() / self.seconds)


def learning_rate(progress: float, step: int, peak: float, warmup: int = 40) -> float:
    """`peak` reached in `warmup` steps, then half a cosine down to a hundredth of it as `progress` goes to 1."""
    rise = min(1.0, (step + 1) / warmup)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class Average:
    """Exponential moving average of a module's parameters; the average is what is kept in the end."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self._live = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._mean = [parameter.detach().clone() for parameter in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the module's present parameters in; early on the average follows more closely."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_mul_(self._mean, decay)
        torch._foreach_add_(self._mean, [parameter.detach() for parameter in self._live], alpha=1 - decay)

    @torch.no_grad()
    def write_back(self) -> None:
        """Gives the module the averaged parameters."""
        for parameter, mean in zip(self._live, self._mean):
            parameter.copy_(mean)
