"""Noise, targets, losses and their weights against formulas written out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from atelier.training.objective.discrete import DiscreteDiffusion, alphas_cumprod
from atelier.training.objective.losses import LossOptions, huber_deltas, picture_losses, timestep_weights
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


WEIGHTED = [
    ("epsilon", LossOptions(min_snr_gamma=5.0), lambda s: min(s, 5) / s if s else 1.0),
    ("v_prediction", LossOptions(min_snr_gamma=5.0), lambda s: min(s, 5) / (s + 1)),
    ("epsilon", LossOptions(debiased_estimation_loss=True), lambda s: 1 / math.sqrt(max(1e-8, min(s, 1000)))),
    ("v_prediction", LossOptions(debiased_estimation_loss=True), lambda s: 1 / (min(s, 1000) + 1)),
    ("v_prediction", LossOptions(scale_v_pred_loss_like_noise_pred=True), lambda s: min(s, 1000) / (min(s, 1000) + 1)),
]


@pytest.mark.parametrize(("prediction", "options", "weight"), WEIGHTED)
def test_a_schedule_with_zero_terminal_snr_is_weighted_as_in_sd_scripts(
    prediction: str, options: LossOptions, weight: Callable[[float], float]
) -> None:
    """sd-scripts computes all_snr before it rescales the schedule: the weights are those of the usual schedule."""
    process = DiscreteDiffusion.create(CPU, True, prediction)
    assert process.alphas[-1] == 0
    found = timestep_weights(TIMES, process, options)
    assert found.tolist() == pytest.approx([weight(snr(t)) for t in TIMES.tolist()], rel=2e-4)


@pytest.mark.parametrize(("prediction", "options", "weight"), WEIGHTED)
def test_the_weights_can_be_those_of_the_rescaled_schedule(
    prediction: str, options: LossOptions, weight: Callable[[float], float]
) -> None:
    """Rescaled by hand: sqrt(abar) is shifted to 0 at the end and stretched to its old start. All stay finite."""
    first, last = math.sqrt(abar(0)), math.sqrt(abar(999))
    rescaled = [((math.sqrt(abar(t)) - last) * first / (first - last)) ** 2 for t in TIMES.tolist()]
    process = DiscreteDiffusion.create(CPU, True, prediction, snr_after_rescaling=True)
    found = timestep_weights(TIMES, process, options)
    assert found.tolist() == pytest.approx([weight(a / (1 - a)) for a in rescaled], rel=1e-3, abs=1e-7)
    assert bool(found.isfinite().all())


def test_huber_follows_the_schedule_that_is_trained_with() -> None:
    """Unlike the weights by SNR: sd-scripts takes its threshold from the rescaled schedule."""
    options = LossOptions(loss_type="huber", huber_schedule="snr", huber_c=0.1)
    at_the_end = huber_deltas(torch.tensor([999]), DiscreteDiffusion.create(CPU, True, "v_prediction"), options)
    assert at_the_end.item() == pytest.approx(0.1)


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


@pytest.mark.parametrize(("name", "scaled"), [("constant", True), ("exponential", True), ("snr", False)])
def test_huber_scale(name: str, scaled: bool) -> None:
    """Multiplies the threshold, but for huber_schedule "snr", as in kohya."""
    process = DiscreteDiffusion.create(CPU)
    plain, asked = (LossOptions(loss_type="huber", huber_schedule=name, huber_scale=scale) for scale in (1.0, 3.0))
    found = huber_deltas(TIMES, process, asked) / huber_deltas(TIMES, process, plain)
    assert found.tolist() == pytest.approx([3.0 if scaled else 1.0] * len(TIMES))


def test_the_weights_of_several_options_follow_kohyas_order() -> None:
    """min-SNR, then the scale of the v loss, then v_pred_like's own part, which multiplies what is there by then."""
    options = LossOptions(
        min_snr_gamma=5.0, scale_v_pred_loss_like_noise_pred=True, v_pred_like_loss=0.5, debiased_estimation_loss=True
    )
    process = DiscreteDiffusion.create(CPU, prediction_type="v_prediction")
    expected = []
    for t in TIMES.tolist():
        bounded = min(snr(t), 1000)
        scale = bounded / (bounded + 1)
        weight = min(snr(t), 5) / (snr(t) + 1) * scale
        weight += 0.5 * weight / scale
        expected.append(weight / (bounded + 1))
    assert timestep_weights(TIMES, process, options).tolist() == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("loss_type", ["l2", "l1"])
def test_errors_are_taken_in_float32(loss_type: str) -> None:
    """Of half precision predictions too: their squares can be too large or too small for it."""
    prediction, target = torch.randn(4, 2, 3, 3).bfloat16(), torch.randn(4, 2, 3, 3)
    found = picture_losses(prediction, target, TIMES, DiscreteDiffusion.create(CPU), LossOptions(loss_type=loss_type))
    errors = prediction.double() - target.double()
    assert found.dtype == torch.float32
    wanted = (errors.square() if loss_type == "l2" else errors.abs()).mean(dim=(1, 2, 3))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)
    half = picture_losses(
        prediction, target.bfloat16(), TIMES, DiscreteDiffusion.create(CPU), LossOptions(loss_type=loss_type)
    )
    errors = prediction.double() - target.bfloat16().double()
    wanted = (errors.square() if loss_type == "l2" else errors.abs()).mean(dim=(1, 2, 3))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), wanted, rtol=1e-6, atol=0)


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


MEANS = torch.tensor([[0.0, 1.0, -2.0, 3.0], [-3.0, 0.5, 0.0, -1.0]])
"""Of each picture's channels."""


@pytest.mark.parametrize(("offset", "scale"), [(0.1, 0.2), (0.5, -0.2)])
def test_adaptive_noise_scale_adds_the_size_of_each_channels_mean(offset: float, scale: float) -> None:
    """Whatever its sign and the other channels', and never to less than nothing."""
    stripes = torch.tensor([-4.0, 4.0]).repeat(4)
    latents = MEANS[:, :, None, None] + stripes.expand(2, 4, 8, 8)
    plain = noise_of(NoiseOptions(), latents)

    def offsets(options: NoiseOptions) -> torch.Tensor:
        return (noise_of(options, latents) - plain).mean(dim=(2, 3))

    found = offsets(NoiseOptions(noise_offset=offset, adaptive_noise_scale=scale))
    wanted = (offset + scale * MEANS.abs()).clamp(min=0) * offsets(NoiseOptions(noise_offset=1.0))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_random_strength_is_between_nothing_and_what_was_asked_for() -> None:
    """Of the noise offset and of the input's noise: another one for each batch, and each part as likely."""
    latents = torch.zeros(64, 64, 1, 1)
    offset = NoiseOptions(noise_offset=0.5, noise_offset_random_strength=True)
    gamma = NoiseOptions(ip_noise_gamma=0.5, ip_noise_gamma_random_strength=True)
    plain = torch.zeros_like(latents)
    strengths = [
        [
            float((noise_of(offset, latents, seed) - noise_of(NoiseOptions(), latents, seed)).std())
            for seed in range(40)
        ],
        [float(draw_input_noise(plain, gamma, torch.Generator().manual_seed(seed)).std()) for seed in range(40)],
    ]
    for found in strengths:
        assert min(found) < 0.1 and 0.4 < max(found) < 0.52 and sum(found) / 40 == pytest.approx(0.25, abs=0.07)


def test_pyramid_noise_is_kohyas_sum() -> None:
    """Each level smaller by a power of its own ratio, weaker by a power of the discount, until a side is 1."""
    latents, random = torch.zeros(1, 4, 40, 8), torch.Generator().manual_seed(3)
    found = noise_of(NoiseOptions(multires_noise_iterations=6, multires_noise_discount=0.8), latents, seed=3)
    total, sizes = torch.randn(latents.shape, generator=random), []
    while not sizes or 1 not in sizes[-1]:
        level, ratio = len(sizes), 2 + 2 * float(torch.rand(1, generator=random))
        sizes.append([max(1, math.floor(side / ratio**level)) for side in (40, 8)])
        coarse = torch.randn(1, 4, *sizes[-1], generator=random)
        up = torch.nn.functional.interpolate(coarse, size=(40, 8), mode="bilinear", align_corners=False)
        total = total + 0.8**level * up
    assert sizes[0] == [40, 8] and 3 <= len(sizes) < 6
    torch.testing.assert_close(found, total / total.std())


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
