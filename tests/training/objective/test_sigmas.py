"""Distributions of sigma and its weights against sd-scripts' and musubi's definitions, number by number."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from atelier.config.settings.idle import foreign_settings
from atelier.config.settings.schema import Settings, option
from atelier.models.family import Flow
from atelier.training.context import noise_process, sigma_options
from atelier.training.objective.sigmas import LINES, SAMPLINGS, SigmaOptions, sample_sigmas, shift_for, sigma_weights
from tests.support.models_tiny import tiny_parts

FLUX = Flow(tokens=(0.5, 256, 1.15, 4096))
COUNT, TOKENS = 64, 1024


def drawn(options: SigmaOptions, flow: Flow | None = None, tokens: int = TOKENS, count: int = COUNT) -> Tensor:
    return sample_sigmas(flow or Flow(3.0), options, count, tokens, torch.Generator().manual_seed(7))


def uniform() -> Tensor:
    return torch.rand(COUNT, generator=torch.Generator().manual_seed(7))


def normal() -> Tensor:
    return torch.randn(COUNT, generator=torch.Generator().manual_seed(7))


def flux_time_shift(mu: float, t: float) -> float:
    """Flux's own way to write a shift: e^mu / (e^mu + 1/t - 1)."""
    return math.exp(mu) / (math.exp(mu) + (1 / t - 1))


def logistic(n: float) -> float:
    return 1 / (1 + math.exp(-n))


MU = 0.5 + (1.15 - 0.5) * (TOKENS - 256) / (4096 - 256)
SHIFT = 2.5
FORMULAS: dict[str, Any] = {
    "uniform": lambda u, n: u,
    "sigmoid": lambda u, n: logistic(1.7 * n),
    "shift": lambda u, n: SHIFT * logistic(1.7 * n) / (1 + (SHIFT - 1) * logistic(1.7 * n)),
    "flux_shift": lambda u, n: flux_time_shift(MU, logistic(1.7 * n)),
    "flux2_shift": lambda u, n: flux_time_shift(MU, logistic(1.7 * n)),
    "qwen_shift": lambda u, n: flux_time_shift(0.5 + 0.4 * (TOKENS - 256) / (8192 - 256), logistic(1.7 * n)),
    "krea2_shift": lambda u, n: flux_time_shift(0.5 + 0.65 * (TOKENS - 256) / (6400 - 256), logistic(1.7 * n)),
    "nextdit_shift": lambda u, n: flux_time_shift(MU, u),
    "logsnr": lambda u, n: logistic(-(0.3 + 0.8 * n) / 2),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_each_sampling_is_its_formula(name: str) -> None:
    options = SigmaOptions(name, sigmoid_scale=1.7, discrete_flow_shift=SHIFT, logit_mean=0.3, logit_std=0.8)
    expected = [FORMULAS[name](u, n) for u, n in zip(uniform().tolist(), normal().tolist(), strict=True)]
    assert drawn(options).tolist() == pytest.approx(expected, rel=2e-5)


def step_of(u: float) -> float:
    """The sigma of sd-scripts' scheduler at a share u of its 1000 steps, which begin at noise."""
    base = (1000 - math.floor(u * 1000)) / 1000
    return SHIFT * base / (1 + (SHIFT - 1) * base)


@pytest.mark.parametrize(
    ("scheme", "u_of"),
    [
        ("none", lambda u, n: u),
        ("uniform", lambda u, n: u),
        ("cosmap", lambda u, n: u),
        ("sigma_sqrt", lambda u, n: u),
        ("logit_normal", lambda u, n: logistic(0.3 + 0.8 * n)),
        ("mode", lambda u, n: 1 - u - 1.29 * (math.cos(math.pi * u / 2) ** 2 - 1 + u)),
    ],
)
def test_sigma_takes_one_of_a_thousand_steps(scheme: str, u_of: Any) -> None:
    options = SigmaOptions("sigma", discrete_flow_shift=SHIFT, weighting_scheme=scheme, logit_mean=0.3, logit_std=0.8)
    expected = [step_of(u_of(u, n)) for u, n in zip(uniform().tolist(), normal().tolist(), strict=True)]
    assert drawn(options).tolist() == pytest.approx(expected, rel=1e-5)


def test_extremes_of_sigma_stay_on_a_step() -> None:
    found = drawn(SigmaOptions("sigma", weighting_scheme="mode", mode_scale=1.75), Flow(), count=20_000)
    assert float(found.min()) >= 0.001 and float(found.max()) <= 1.0


def test_what_is_empty_is_the_familys_own() -> None:
    assert torch.equal(drawn(SigmaOptions(), Flow(3.0)), drawn(SigmaOptions("shift", discrete_flow_shift=3.0)))
    trained = Flow(3.0, trained_with=2.0)
    assert torch.equal(drawn(SigmaOptions(), trained), drawn(SigmaOptions("shift", discrete_flow_shift=2.0)))
    asked = SigmaOptions(discrete_flow_shift=5.0)
    assert torch.equal(drawn(asked, trained), drawn(replace(asked, timestep_sampling="shift")))
    assert torch.equal(drawn(SigmaOptions(), FLUX), drawn(SigmaOptions("flux_shift")))
    assert not torch.equal(drawn(SigmaOptions(), FLUX), drawn(SigmaOptions(), FLUX, tokens=4096))


def test_a_shift_by_resolution_follows_the_line() -> None:
    assert shift_for(FLUX, 256) == pytest.approx(math.exp(0.5))
    assert shift_for(FLUX, 4096) == pytest.approx(math.exp(1.15))
    assert shift_for(FLUX, 2176) == pytest.approx(math.exp(0.825))
    assert shift_for(Flow(shift=3.0), 4096) == 3.0


def test_weights() -> None:
    sigmas = torch.tensor([0.1, 0.5, 1.0])
    squared = sigma_weights(SigmaOptions(weighting_scheme="sigma_sqrt"), sigmas)
    assert squared is not None and squared.tolist() == pytest.approx([100.0, 4.0, 1.0], rel=1e-5)
    cosmap = sigma_weights(SigmaOptions(weighting_scheme="cosmap"), sigmas)
    assert cosmap is not None
    assert cosmap.tolist() == pytest.approx([2 / (math.pi * c) for c in (0.82, 0.5, 1.0)], rel=1e-5)
    for scheme in ("none", "uniform", "logit_normal", "mode"):
        assert sigma_weights(SigmaOptions(weighting_scheme=scheme), sigmas) is None


def test_the_schema_and_the_process_have_the_same_names() -> None:
    assert set(option("timestep_sampling").choices) == set(SAMPLINGS) >= set(LINES)
    with pytest.raises(ValueError, match="no timestep_sampling"):
        SigmaOptions("cauchy")
    settings = Settings(timestep_sampling="sigma", weighting_scheme="mode", discrete_flow_shift=2.0, mode_scale=0.5)
    assert sigma_options(settings) == SigmaOptions("sigma", 1.0, 2.0, "mode", mode_scale=0.5)


def test_stable_diffusion_reads_none_of_it() -> None:
    parts = tiny_parts("sd1")
    usual = noise_process(Settings(), parts)
    other = noise_process(Settings(timestep_sampling="uniform", weighting_scheme="cosmap"), parts)
    draws = [process.sample_times(8, 16, torch.Generator().manual_seed(1)) for process in (usual, other)]
    assert torch.equal(*draws) and other.weights(draws[0]) is None


def test_settings_that_the_model_does_not_read_are_told() -> None:
    assert foreign_settings(Settings(weighting_scheme="uniform"), False, "SDXL") == []
    told = foreign_settings(Settings(timestep_sampling="sigma", zero_terminal_snr=True), False, "SDXL")
    assert told == ["Noise sampling (timestep_sampling) does nothing for SDXL."]
    told = foreign_settings(Settings(timestep_sampling="sigma", zero_terminal_snr=True), True, "Z-Image")
    assert told == ["Zero terminal SNR (zero_terminal_snr) does nothing for Z-Image."]
