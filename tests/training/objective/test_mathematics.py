"""Noise, targets, losses and their weights against formulas written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from atelier.training.objective.discrete import DiscreteDiffusion, alphas_cumprod
from atelier.training.objective.losses import LossOptions, picture_losses, timestep_weights
from atelier.training.objective.noise import NoiseOptions, draw_input_noise, draw_noise

CPU = torch.device("cpu")
TIMES = torch.tensor([0, 13, 500, 999])


def abar(t: int) -> float:
    product = 1.0
    for step in range(t + 1):
        beta = (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * step / 999) ** 2
        product *= 1 - beta
    return product


def snr(t: int) -> float:
    return abar(t) / (1 - abar(t))


def test_schedule_is_stable_diffusions() -> None:
    alphas = alphas_cumprod()
    for t in (0, 1, 500, 999):
        assert alphas[t].item() == pytest.approx(abar(t), rel=1e-4)


def test_zero_terminal_snr_keeps_the_start_and_ends_in_noise() -> None:
    alphas = alphas_cumprod(zero_terminal_snr=True)
    assert alphas[0].item() == pytest.approx(abar(0), rel=1e-6)
    assert alphas[-1].item() == 0.0


def test_noise_and_velocity() -> None:
    process = DiscreteDiffusion.create(CPU, prediction_type="v_prediction")
    x, noise = torch.randn(4, 4, 3, 5), torch.randn(4, 4, 3, 5)
    noisy, velocity = process.add_noise(x, noise, TIMES), process.target(x, noise, TIMES)
    for row, t in enumerate(TIMES.tolist()):
        signal, sigma = math.sqrt(abar(t)), math.sqrt(1 - abar(t))
        torch.testing.assert_close(noisy[row], signal * x[row] + sigma * noise[row], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(velocity[row], signal * noise[row] - sigma * x[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("prediction", "options", "weight"),
    [
        ("epsilon", LossOptions(), lambda s: 1.0),
        ("epsilon", LossOptions(min_snr_gamma=5.0), lambda s: min(s, 5) / s),
        ("v_prediction", LossOptions(min_snr_gamma=5.0), lambda s: min(s, 5) / (s + 1)),
        (
            "v_prediction",
            LossOptions(scale_v_pred_loss_like_noise_pred=True),
            lambda s: min(s, 1000) / (min(s, 1000) + 1),
        ),
        ("epsilon", LossOptions(v_pred_like_loss=0.5), lambda s: 1 + 0.5 * (min(s, 1000) + 1) / min(s, 1000)),
        ("epsilon", LossOptions(debiased_estimation_loss=True), lambda s: 1 / math.sqrt(min(s, 1000))),
        ("v_prediction", LossOptions(debiased_estimation_loss=True), lambda s: 1 / (min(s, 1000) + 1)),
    ],
)
def test_timestep_weights(prediction: str, options: LossOptions, weight) -> None:
    found = timestep_weights(TIMES, DiscreteDiffusion.create(CPU, prediction_type=prediction), options)
    expected = [weight(snr(t)) for t in TIMES.tolist()]
    assert found.tolist() == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("schedule_name", ["constant", "exponential", "snr"])
@pytest.mark.parametrize("loss_type", ["huber", "smooth_l1"])
def test_huber(schedule_name: str, loss_type: str) -> None:
    options = LossOptions(loss_type=loss_type, huber_schedule=schedule_name, huber_c=0.2)
    prediction, target = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    found = picture_losses(prediction, target, TIMES, DiscreteDiffusion.create(CPU), options)
    for row, t in enumerate(TIMES.tolist()):
        d = {
            "constant": 0.2,
            "exponential": math.exp(math.log(0.2) * t / 1000),
            "snr": 0.8 / (1 + 1 / math.sqrt(snr(t))) ** 2 + 0.2,
        }[schedule_name]
        error = (prediction[row] - target[row]).double()
        loss = 2 * (torch.sqrt(error**2 + d**2) - d) * (d if loss_type == "huber" else 1)
        assert found[row].item() == pytest.approx(loss.mean().item(), rel=1e-4)


def test_mask_then_mean_then_picture_weight() -> None:
    prediction, target = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    masks = torch.rand(2, 1, 4, 4)
    found = picture_losses(
        prediction, target, TIMES[:2], DiscreteDiffusion.create(CPU), LossOptions(), masks, torch.tensor([1.0, 0.3])
    )
    expected = (((prediction - target) ** 2) * masks).mean(dim=(1, 2, 3)) * torch.tensor([1.0, 0.3])
    torch.testing.assert_close(found, expected)


def test_timesteps_keep_their_bounds() -> None:
    random = torch.Generator().manual_seed(0)
    found = DiscreteDiffusion.create(CPU, min_timestep=200, max_timestep=210).sample_times(2000, 16, random)
    assert found.min() == 200 and found.max() == 209


def noise_of(options: NoiseOptions, latents: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return draw_noise(latents, options, torch.Generator().manual_seed(seed))


def test_noise_offset_moves_each_channel_by_one_constant() -> None:
    latents = torch.zeros(3, 4, 8, 8)
    difference = noise_of(NoiseOptions(noise_offset=0.5), latents) - noise_of(NoiseOptions(), latents)
    assert difference.std(dim=(2, 3)).max() < 1e-6
    assert difference.mean(dim=(2, 3)).std() > 0.2


def test_adaptive_noise_scale_follows_the_latents() -> None:
    dark, bright = torch.zeros(1, 4, 8, 8), torch.full((1, 4, 8, 8), 3.0)
    options = NoiseOptions(noise_offset=0.1, adaptive_noise_scale=0.1)
    plain = noise_of(NoiseOptions(), dark)
    small = (noise_of(options, dark) - plain).abs().mean()
    large = (noise_of(options, bright) - plain).abs().mean()
    assert large.item() == pytest.approx(4 * small.item(), rel=1e-3)


def test_pyramid_noise_has_unit_deviation_and_coarse_parts() -> None:
    latents = torch.zeros(2, 4, 32, 32)
    found = noise_of(NoiseOptions(multires_noise_iterations=6, multires_noise_discount=0.8), latents)
    plain = noise_of(NoiseOptions(), latents)
    assert found.std().item() == pytest.approx(1.0, abs=1e-4)
    coarse = torch.nn.functional.avg_pool2d(found, 8).std()
    assert coarse > 2 * torch.nn.functional.avg_pool2d(plain, 8).std()


def test_input_noise_perturbs_the_input_alone() -> None:
    noise = torch.randn(2, 4, 16, 16)
    random = torch.Generator().manual_seed(1)
    found = draw_input_noise(noise, NoiseOptions(ip_noise_gamma=0.1), random)
    assert (found - noise).std().item() == pytest.approx(0.1, rel=0.1)
