"""Rectified flow against its formulas, and the ways of choosing sigma."""

from __future__ import annotations

import math

import pytest
import torch

from atelier.models.family import Flow
from atelier.training.objective.flow import RectifiedFlow, shift_for, shifted
from atelier.training.objective.losses import LossOptions, huber_deltas

FLUX = Flow(tokens=(0.5, 256, 1.15, 4096))


def drawn(process: RectifiedFlow, tokens: int = 256, count: int = 20_000) -> torch.Tensor:
    return process.sample_times(count, tokens, torch.Generator().manual_seed(0))


def test_noise_lies_on_a_line_and_the_target_is_its_direction() -> None:
    process = RectifiedFlow(Flow())
    x, noise = torch.randn(3, 16, 2, 5), torch.randn(3, 16, 2, 5)
    sigma = torch.tensor([0.1, 0.5, 1.0])
    noisy, target = process.add_noise(x, noise, sigma), process.target(x, noise, sigma)
    for row, s in enumerate(sigma.tolist()):
        torch.testing.assert_close(noisy[row], (1 - s) * x[row] + s * noise[row])
    torch.testing.assert_close(target, noise - x)
    # One step of Euler's method from x_sigma along the target is the picture again.
    torch.testing.assert_close(noisy - sigma[:, None, None, None] * target, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shift", "expected"), [(1.0, 0.5), (3.0, 0.75), (0.5, 1 / 3)])
def test_a_shift_moves_the_middle(shift: float, expected: float) -> None:
    assert shifted(torch.tensor([0.0, 0.5, 1.0]), shift).tolist() == pytest.approx([0.0, expected, 1.0])


def test_a_shift_by_resolution_follows_the_line() -> None:
    assert shift_for(FLUX, 256) == pytest.approx(math.exp(0.5))
    assert shift_for(FLUX, 4096) == pytest.approx(math.exp(1.15))
    assert shift_for(FLUX, 2176) == pytest.approx(math.exp(0.825))
    assert shift_for(Flow(shift=3.0), 4096) == 3.0


def test_distributions() -> None:
    """Medians: of a uniform u, of a sigmoid of a normal, and of one shifted."""
    assert float(drawn(RectifiedFlow(Flow(3.0), "uniform")).median()) == pytest.approx(0.5, abs=0.02)
    sigmoid = drawn(RectifiedFlow(Flow(3.0), "sigmoid"))
    assert float(sigmoid.median()) == pytest.approx(0.5, abs=0.02)
    assert float(sigmoid.quantile(0.8413)) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)
    wide = drawn(RectifiedFlow(Flow(), "sigmoid", scale=2.0))
    assert float(wide.quantile(0.8413)) == pytest.approx(1 / (1 + math.exp(-2)), abs=0.02)
    assert float(drawn(RectifiedFlow(Flow(3.0))).median()) == pytest.approx(0.75, abs=0.02)
    assert float(drawn(RectifiedFlow(Flow(3.0), shift=1.0)).median()) == pytest.approx(0.5, abs=0.02)
    middle = math.exp(1.15) / (1 + math.exp(1.15))
    assert float(drawn(RectifiedFlow(FLUX), 4096).median()) == pytest.approx(middle, abs=0.02)


def test_the_range_is_kept_and_no_sigma_is_0() -> None:
    found = drawn(RectifiedFlow(Flow(), "uniform", lowest=0.2, highest=0.4))
    assert 0.2 <= float(found.min()) < 0.21 and 0.39 < float(found.max()) <= 0.4
    assert float(drawn(RectifiedFlow(Flow(), "uniform", highest=0.0)).min()) > 0
    with pytest.raises(ValueError, match="no distribution"):
        RectifiedFlow(Flow(), "cauchy")


def test_what_losses_ask_of_it() -> None:
    process, sigma = RectifiedFlow(Flow()), torch.tensor([0.2, 0.5, 0.9])
    assert process.snr(sigma).tolist() == pytest.approx([16.0, 1.0, 1 / 81], rel=1e-4)
    assert process.noise_to_signal(sigma).tolist() == pytest.approx([0.25, 1.0, 9.0], rel=1e-4)
    exponential = huber_deltas(sigma, process, LossOptions(huber_schedule="exponential", huber_c=0.1))
    assert exponential.tolist() == pytest.approx([0.1**0.2, 0.1**0.5, 0.1**0.9], rel=1e-4)
    assert process.fixed_times(0.3, 2, torch.device("cpu")).tolist() == pytest.approx([0.3, 0.3])
