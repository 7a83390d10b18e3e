"""Updates weights one at a time, which needs less memory and makes training in bf16 accurate.

Each weight is cast to float32 only for its own step. Stochastic rounding brings it back to bf16: an update too small
for bf16 is rounded up or down at random, with odds that make it right on average. Rounding to nearest would lose it
(Gupta et al., 2015, "Deep Learning with Limited Numerical Precision").

Fused, each step is taken inside the backward pass as soon as a weight's gradient is complete, and the gradient is
freed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.config.settings.schema import labelled
from atelier.training.optim.norms import total_norm
from atelier.training.randomness import derived_seed

EACH_FOR_ITSELF = (
    "adamw", "adamw8bit", "pagedadamw", "pagedadamw8bit", "pagedadamw32bit", "lion", "lion8bit", "pagedlion8bit",
    "sgdnesterov", "sgdnesterov8bit", "adafactor", "adam", "sgd",
)  # fmt: skip
"""Optimizers whose step for one weight does not depend on the others."""


class Updater:
    """Steps an optimizer over single weights, also inside the backward pass (see `fused`)."""

    def __init__(self, optimizer: torch.optim.Optimizer, seed: int, max_grad_norm: float) -> None:
        self._optimizer = optimizer
        self._seed = seed
        self._max_grad_norm = max_grad_norm
        members = [
            (number, weight) for number, group in enumerate(optimizer.param_groups) for weight in group["params"]
        ]
        self._places = {weight: (number, index) for index, (number, weight) in enumerate(members)}
        """Weight -> (number of its group, index among all weights). Loading a state replaces the groups themselves."""
        self.step_number = 0
        """The number of the optimizer's step, which seeds the stochastic rounding."""

    def step(self) -> None:
        """Takes a step for every weight with a gradient. Gradients stay."""
        for parameter in self._places:
            if parameter.grad is not None:
                self.step_one(parameter)

    @torch.no_grad()
    def step_one(self, parameter: nn.Parameter) -> None:
        """Takes a step for one weight."""
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
            parameter.grad = None  # a gradient must have the weight's precision
            parameter.data = weight
            parameter.grad = gradient

    @contextmanager
    def fused(self) -> Iterator[None]:
        """Inside the block every backward pass takes the optimizer's step and leaves no gradients."""

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
        """Inside the block the optimizer has only this weight of the group."""
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
    """Raises `AtelierError` for an optimizer that needs all weights at once. `why`: the setting for single steps."""
    if name.lower() not in EACH_FOR_ITSELF:
        raise AtelierError(
            f"With {labelled(why)}, the optimizer must step each weight separately, which {name} cannot. Choose "
            f"AdamW8bit, AdamW or Adafactor, or turn {labelled(why)} off."
        )


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> None:
    """Scales all gradients so that their common norm is at most `max_norm`, like torch's clip_grad_norm_.

    On a CPU the norm can be read without waiting, so small gradients are not scaled at all.
    """
    if parameters[0].device.type != "cpu":
        nn.utils.clip_grad_norm_(parameters, max_norm)
        return
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if not gradients:
        return
    factor = max_norm / (total_norm(gradients) + 1e-6)
    if not bool(factor >= 1.0):  # also when it is NaN, which must reach the weights to be noticed
        torch._foreach_mul_(gradients, factor.clamp(max=1.0))


@torch.no_grad()
def round_at_random(target: Tensor, source: Tensor, generator: torch.Generator) -> None:
    """Stochastic rounding: writes `source` (float32) into `target` (bfloat16), rounded up or down at random.

    The mean of the result is the source. bf16 is the upper half of float32: a random number added to the lower half
    carries over with the right probability.
    """
    bits = source.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    target.copy_((bits + noise).bitwise_and_(-(1 << 16)).view(torch.float32))


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """`load_state_dict`, but the moments keep the precision in which they were saved, whatever the weights have."""
    optimizer.load_state_dict(dict(state))
    weights: Sequence[nn.Parameter] = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, weight in enumerate(weights):
        for key, saved in state["state"].get(index, {}).items():
            loaded = optimizer.state[weight].get(key)
            if isinstance(saved, Tensor) and isinstance(loaded, Tensor) and saved.dtype != loaded.dtype:
                optimizer.state[weight][key] = saved.to(device=loaded.device, copy=True)


@contextmanager
def _as_float32(parameter: nn.Parameter) -> Iterator[None]:
    """Casts the weight and its gradient to float32. The caller restores them."""
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
