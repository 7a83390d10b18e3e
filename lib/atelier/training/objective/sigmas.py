"""How much noise a flow is trained on: the distribution of sigma in 0 … 1, under the names of sd-scripts and musubi.

A name of timestep_sampling says what u is and how it is shifted towards noise, sigma = s u / (1 + (s - 1) u) (Esser et
al. 2024, arXiv:2403.03206, sections 3.1 and 5.3.2):

    uniform                 u uniform                                sigma = u
    sigmoid                 u = sigmoid(scale n), n normal           sigma = u
    shift                   the same u                               s is discrete_flow_shift
    flux_shift and its kin  the same u                               s = exp(mu), mu on a line by the picture's tokens
    nextdit_shift           u uniform                                s as of flux_shift
    logsnr                  sigma = sigmoid(-v / 2), v normal with logit_mean and logit_std (arXiv:2411.14793)
    sigma                   u as weighting_scheme says; sigma is the one of 1000 steps, from noise on, that u falls on
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from atelier.models.family import Flow

Line = tuple[float, int, float, int]
"""mu at a count of tokens, and mu at another."""

LINES: Mapping[str, Line] = MappingProxyType(
    {
        "flux_shift": (0.5, 256, 1.15, 4096),
        "flux2_shift": (0.5, 256, 1.15, 4096),
        "nextdit_shift": (0.5, 256, 1.15, 4096),
        "qwen_shift": (0.5, 256, 0.9, 8192),
        "krea2_shift": (0.5, 256, 1.15, 6400),
    }
)
"""Shifts that follow the size of a picture."""
SAMPLINGS = ("sigma", "uniform", "sigmoid", "shift", "logsnr", *LINES)
"""The values of timestep_sampling."""
STEPS = 1000
"""Steps that "sigma" chooses from."""
SMALLEST = 1e-4
"""There is nothing to learn from a picture without noise."""


@dataclass(frozen=True)
class SigmaOptions:
    """kohya's settings. `timestep_sampling` None is "shift"; `discrete_flow_shift` None is the family's."""

    timestep_sampling: str | None = None
    sigmoid_scale: float = 1.0
    discrete_flow_shift: float | None = None
    weighting_scheme: str = "none"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    mode_scale: float = 1.29

    def __post_init__(self) -> None:
        if self.timestep_sampling is not None and self.timestep_sampling not in SAMPLINGS:
            raise ValueError(f"{self.timestep_sampling!r} is no timestep_sampling; there are {', '.join(SAMPLINGS)}")


def on_line(line: Line, tokens: int) -> float:
    """exp(mu) for a picture of `tokens` patches."""
    low, few, high, many = line
    return math.exp(low + (high - low) * (tokens - few) / (many - few))


def shift_for(flow: Flow, tokens: int) -> float:
    """s of the family's sampler for a picture of `tokens` patches: a constant, or on its line (see `Flow.tokens`)."""
    return flow.shift if flow.tokens is None else on_line(flow.tokens, tokens)


def training_shift(flow: Flow, tokens: int) -> float:
    """s that the family is trained with: its own, or that of its sampler."""
    return shift_for(flow, tokens) if flow.trained_with is None else flow.trained_with


def shifted(u: Tensor, shift: float) -> Tensor:
    """sigma = s u / (1 + (s - 1) u)."""
    return shift * u / (1.0 + (shift - 1.0) * u)


def sample_sigmas(flow: Flow, options: SigmaOptions, count: int, tokens: int, generator: torch.Generator) -> Tensor:
    """sigma [count], float32 in 0 … 1, drawn on the CPU, for pictures of `tokens` patches."""
    name = options.timestep_sampling or "shift"
    shift = options.discrete_flow_shift
    if shift is None:
        shift = training_shift(flow, tokens)
    if name == "sigma":
        return shifted(_on_a_step(_density(options, count, generator)), shift)
    if name == "logsnr":
        return torch.sigmoid(-_normal(options, count, generator) / 2)
    if name in ("uniform", "nextdit_shift"):
        u = torch.rand(count, generator=generator)
    else:
        u = torch.sigmoid(options.sigmoid_scale * torch.randn(count, generator=generator))
    if name == "shift":
        return shifted(u, shift)
    return shifted(u, on_line(LINES[name], tokens)) if name in LINES else u


def sigma_weights(options: SigmaOptions, sigmas: Tensor) -> Tensor | None:
    """The factor of each picture's loss [B] that weighting_scheme asks for; None where all count the same."""
    if options.weighting_scheme == "sigma_sqrt":
        return sigmas.float() ** -2
    if options.weighting_scheme == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigmas + 2 * sigmas**2))
    return None


def _density(options: SigmaOptions, count: int, generator: torch.Generator) -> Tensor:
    """u [count] in 0 … 1 for "sigma", where 0 is noise."""
    if options.weighting_scheme == "logit_normal":
        return torch.sigmoid(_normal(options, count, generator))
    u = torch.rand(count, generator=generator)
    if options.weighting_scheme == "mode":
        return 1 - u - options.mode_scale * (torch.cos(math.pi * u / 2) ** 2 - 1 + u)
    return u


def _on_a_step(u: Tensor) -> Tensor:
    """The step that u falls on, of 1000 … 1 thousandths."""
    index = (u * STEPS).long().clamp(0, STEPS - 1)
    return (STEPS - index).float() / STEPS


def _normal(options: SigmaOptions, count: int, generator: torch.Generator) -> Tensor:
    return options.logit_mean + options.logit_std * torch.randn(count, generator=generator)
