"""From gradients to new weights: all at once, or a weight at a time, which needs less memory and can keep bf16 honest.

A weight at a time, each is lifted to float32 for its own step alone. Back in bf16 it is rounded at random, up or down
in proportion to how near either neighbour is: steps far smaller than bf16 can tell apart then count on average, where
rounding to the nearest would lose them all (Gupta et al., 2015, "Deep Learning with Limited Numerical Precision").

Fused, each step is taken inside the backward pass as soon as a weight's gradient is whole, and the gradient is freed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.training.optim.norms import total_norm
from atelier.training.randomness import derived_seed

EACH_FOR_ITSELF = (
    "adamw", "adamw8bit", "pagedadamw", "pagedadamw8bit", "pagedadamw32bit", "lion", "lion8bit", "pagedlion8bit",
    "sgdnesterov", "sgdnesterov8bit", "adafactor", "adam", "sgd",
)  # fmt: skip
"""Optimisers whose step for one weight does not depend on the others."""


class Updater:
    """Steps an optimiser over single weights. Inside a fused backward pass too, where `fused` was entered."""

    def __init__(self, optimizer: torch.optim.Optimizer, seed: int, max_grad_norm: float) -> None:
        self._optimizer = optimizer
        self._seed = seed
        self._max_grad_norm = max_grad_norm
        members = [
            (number, weight) for number, group in enumerate(optimizer.param_groups) for weight in group["params"]
        ]
        self._places = {weight: (number, index) for index, (number, weight) in enumerate(members)}
        """The number of its group, and its own among all. Loading a state exchanges the groups themselves."""
        self.step_number = 0
        """The number of the optimiser's step, from which the random rounding is drawn."""

    def step(self) -> None:
        """A step for every weight that has a gradient; gradients are left as they are."""
        for parameter in self._places:
            if parameter.grad is not None:
                self.step_one(parameter)

    @torch.no_grad()
    def step_one(self, parameter: nn.Parameter) -> None:
        """A step for one weight."""
        number, index = self._places[parameter]
        with self._only(self._optimizer.param_groups[number], parameter):
            if parameter.dtype == torch.float32:
                self._optimizer.step()
                return
            weight, gradient = parameter.data, parameter.grad
            with _as_float32(parameter):
                self._optimizer.step()
                lifted = parameter.data
            generator = torch.Generator(weight.device)
            generator.manual_seed(derived_seed(self._seed, "rounding", self.step_number, index))
            round_at_random(weight, lifted, generator)
            parameter.grad = None  # whose precision has to be the weight's
            parameter.data = weight
            parameter.grad = gradient

    @contextmanager
    def fused(self) -> Iterator[None]:
        """Inside the block every backward pass takes the optimiser's step, and leaves no gradients."""

        def consume(parameter: Tensor) -> None:
            assert isinstance(parameter, nn.Parameter)
            if self._max_grad_norm:
                torch.nn.utils.clip_grad_norm_([parameter], self._max_grad_norm)
            self.step_one(parameter)
            parameter.grad = None

        hooks = [parameter.register_post_accumulate_grad_hook(consume) for parameter in self._places]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _only(self, group: dict[str, Any], parameter: nn.Parameter) -> Iterator[None]:
        """Inside the block this one weight of the group is all that the optimiser has."""
        groups = self._optimizer.param_groups
        kept = group["params"]
        group["params"] = [parameter]
        self._optimizer.param_groups = [group]
        try:
            yield
        finally:
            group["params"] = kept
            self._optimizer.param_groups = groups


def check_each_for_itself(name: str, why: str) -> None:
    """Raises `AtelierError` for an optimiser that needs all weights at once. `why`: the setting that asks for it."""
    if name.lower() not in EACH_FOR_ITSELF:
        raise AtelierError(
            f"{why} takes the optimiser's step weight by weight, which {name} cannot: choose AdamW8bit, AdamW or "
            f"Adafactor, or turn {why} off."
        )


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> None:
    """Scales all gradients together so that their norm is at most `max_norm`, as torch's clip_grad_norm_ does.

    On a processor the norm can be looked at without waiting, and gradients that are small enough are left alone.
    """
    if parameters[0].device.type != "cpu":
        nn.utils.clip_grad_norm_(parameters, max_norm)
        return
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if not gradients:
        return
    factor = max_norm / (total_norm(gradients) + 1e-6)
    if not bool(factor >= 1.0):  # or no number, which is to be seen in the weights
        torch._foreach_mul_(gradients, factor.clamp(max=1.0))


@torch.no_grad()
def round_at_random(target: Tensor, source: Tensor, generator: torch.Generator) -> None:
    """Writes `source` (float32) into `target` (bfloat16), rounded up or down at random; its mean is the source.

    bf16 is the upper half of float32: a random number added to the lower half carries over as often as it should.
    """
    bits = source.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    target.copy_((bits + noise).bitwise_and_(-(1 << 16)).view(torch.float32))


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """`load_state_dict`, with the moments in the precision that they were saved in, whatever the weights'."""
    optimizer.load_state_dict(dict(state))
    weights: Sequence[nn.Parameter] = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, weight in enumerate(weights):
        for key, saved in state["state"].get(index, {}).items():
            loaded = optimizer.state[weight].get(key)
            if isinstance(saved, Tensor) and isinstance(loaded, Tensor) and saved.dtype != loaded.dtype:
                optimizer.state[weight][key] = saved.to(device=loaded.device, copy=True)


@contextmanager
def _as_float32(parameter: nn.Parameter) -> Iterator[None]:
    """The weight and its gradient in float32; the caller puts the old ones back."""
    weight, gradient = parameter.data, parameter.grad
    assert gradient is not None
    parameter.grad = None
    parameter.data = weight.float()
    parameter.grad = gradient.float()
    try:
        yield
    except BaseException:
        parameter.grad = None
        parameter.data = weight
        parameter.grad = gradient
        raise
