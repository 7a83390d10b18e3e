"""Rectified flow against its formulas."""

from __future__ import annotations

import pytest
import torch

from atelier.models.family import Flow
from atelier.training.objective.flow import RectifiedFlow
from atelier.training.objective.losses import LossOptions, huber_deltas, picture_losses
from atelier.training.objective.sigmas import SigmaOptions, shifted


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


def test_the_range_is_kept_and_no_sigma_is_0() -> None:
    for name in ("uniform", "shift", "sigma"):
        found = drawn(RectifiedFlow(Flow(3.0), SigmaOptions(name), lowest=0.2, highest=0.4))
        assert 0.2 <= float(found.min()) < 0.22 and 0.39 < float(found.max()) < 0.4001
    assert float(drawn(RectifiedFlow(Flow(), SigmaOptions("uniform"), highest=0.0)).min()) > 0


def test_how_a_prediction_is_compared() -> None:
    """raw: p and eps - x_0. additive: p + x_sigma. sigma_scaled: x_sigma - sigma p and x_0."""
    x, noise, p = torch.randn(3, 2, 16, 2, 5).unbind()
    sigma = torch.tensor([0.25, 0.75])
    noisy = RectifiedFlow(Flow()).add_noise(x, noise, sigma)
    for name, expected in {
        "raw": (p, noise - x),
        "additive": (p + noisy, noise - x),
        "sigma_scaled": (torch.stack([noisy[0] - 0.25 * p[0], noisy[1] - 0.75 * p[1]]), x),
    }.items():
        found = RectifiedFlow(Flow(), prediction=name).compared(p, noisy, x, noise, sigma)
        for tensor, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(tensor, wanted)
    assert float(((noisy - sigma[:, None, None, None] * (noise - x)) - x).abs().max()) < 1e-5
    with pytest.raises(ValueError, match="no prediction type"):
        RectifiedFlow(Flow(), prediction="noise")


def test_weights_multiply_the_loss_of_each_picture() -> None:
    sigma, ones = torch.tensor([0.1, 0.5]), torch.ones(2, 4, 2, 2)
    process = RectifiedFlow(Flow(), SigmaOptions(weighting_scheme="sigma_sqrt"))
    found = picture_losses(ones, 0 * ones, sigma, process, LossOptions(), picture_weights=torch.tensor([1.0, 0.5]))
    assert found.tolist() == pytest.approx([100.0, 2.0], rel=1e-5)


def test_what_losses_ask_of_it() -> None:
    process, sigma = RectifiedFlow(Flow()), torch.tensor([0.2, 0.5, 0.9])
    assert process.snr(sigma).tolist() == pytest.approx([16.0, 1.0, 1 / 81], rel=1e-4)
    assert process.noise_to_signal(sigma).tolist() == pytest.approx([0.25, 1.0, 9.0], rel=1e-4)
    exponential = huber_deltas(sigma, process, LossOptions(huber_schedule="exponential", huber_c=0.1))
    assert exponential.tolist() == pytest.approx([0.1**0.2, 0.1**0.5, 0.1**0.9], rel=1e-4)
    assert process.fixed_times(0.3, 2, torch.device("cpu")).tolist() == pytest.approx([0.3, 0.3])
