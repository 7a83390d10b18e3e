"""Losses and their weights by timestep, in kohya's order: element-wise, mask, mean, prior weight, SNR weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from atelier.training.objective.process import NoiseProcess


@dataclass(frozen=True)
class LossOptions:
    """kohya's options."""

    loss_type: str = "l2"
    huber_schedule: str = "snr"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    min_snr_gamma: float | None = None
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: float | None = None
    debiased_estimation_loss: bool = False

    @property
    def by_timestep(self) -> bool:
        """False where every timestep counts the same."""
        return bool(
            self.min_snr_gamma
            or self.scale_v_pred_loss_like_noise_pred
            or self.v_pred_like_loss
            or self.debiased_estimation_loss
        )


def huber_deltas(times: Tensor, process: NoiseProcess, options: LossOptions) -> Tensor:
    """The huber threshold of each picture, [B].

    "constant": huber_c x scale. "exponential": from 1 at t = 0 to huber_c at the last step. "snr": the threshold
    follows the noise-to-signal amplitude, (1 - c) / (1 + amplitude)^2 + c, unscaled as in kohya.
    """
    if options.huber_schedule == "constant":
        return torch.full(times.shape, options.huber_c * options.huber_scale, device=times.device)
    if options.huber_schedule == "exponential":
        alpha = -math.log(options.huber_c) / 1000
        return torch.exp(-alpha * process.thousandths(times)) * options.huber_scale
    amplitude = process.noise_to_signal(times)
    return (1 - options.huber_c) / (1 + amplitude) ** 2 + options.huber_c


def element_loss(prediction: Tensor, target: Tensor, deltas: Tensor | None, loss_type: str) -> Tensor:
    """Loss of each element, [B, C, h, w]. `deltas` [B] is for "huber" and "smooth_l1" alone.

    huber: 2 d (sqrt(e^2 + d^2) - d); smooth_l1: 2 (sqrt(e^2 + d^2) - d), both pseudo-Huber (Charbonnier) forms.
    """
    if loss_type == "l2":
        return functional.mse_loss(prediction, target, reduction="none")
    if loss_type == "l1":
        return functional.l1_loss(prediction, target, reduction="none")
    if deltas is None:
        raise ValueError(f"loss_type {loss_type} needs huber deltas")
    delta = deltas.view(-1, *[1] * (prediction.dim() - 1))
    rooted = torch.sqrt((prediction - target) ** 2 + delta**2) - delta
    return 2 * delta * rooted if loss_type == "huber" else 2 * rooted


def timestep_weights(times: Tensor, process: NoiseProcess, options: LossOptions) -> Tensor:
    """The factor of each picture's loss, [B].

    min-SNR (Hang et al. 2023): min(snr, gamma) / snr, for v divided by snr + 1. v loss scaled like noise prediction:
    snr / (snr + 1), which v_pred_like adds with a weight to the epsilon loss's own inverse. Debiased estimation
    (Yu et al. 2023): 1 / sqrt(snr), for v 1 / (snr + 1), with snr at most 1000.
    """
    is_v = process.predicts_velocity
    snr = process.snr(times)
    weights = torch.ones_like(snr)
    if options.min_snr_gamma:
        clipped = snr.clamp(max=options.min_snr_gamma)
        weights = weights * (clipped / (snr + 1) if is_v else clipped / snr)
    if options.scale_v_pred_loss_like_noise_pred:
        weights = weights * _v_scale(snr)
    if options.v_pred_like_loss:
        weights = weights + options.v_pred_like_loss * weights / _v_scale(snr)
    if options.debiased_estimation_loss:
        bounded = snr.clamp(max=1000)
        weights = weights * (1 / (bounded + 1) if is_v else 1 / bounded.sqrt())
    return weights


def picture_losses(
    prediction: Tensor,
    target: Tensor,
    times: Tensor,
    process: NoiseProcess,
    options: LossOptions,
    masks: Tensor | None = None,
    picture_weights: Tensor | None = None,
) -> Tensor:
    """The weighted loss of each picture, [B] float32.

    `masks` [B, 1, h, w] in 0..1 multiply element-wise before the mean; `picture_weights` [B] carry prior_loss_weight.
    """
    deltas = None
    if options.loss_type in ("huber", "smooth_l1"):
        deltas = huber_deltas(times, process, options)
    loss = element_loss(prediction.float(), target.float(), deltas, options.loss_type)
    if masks is not None:
        loss = loss * masks
    loss = loss.mean(dim=(1, 2, 3))
    if picture_weights is not None:
        loss = loss * picture_weights
    own = process.weights(times)
    if own is not None:
        loss = loss * own
    return loss * timestep_weights(times, process, options) if options.by_timestep else loss


def _v_scale(snr: Tensor) -> Tensor:
    """snr / (snr + 1), with snr at most 1000."""
    bounded = snr.clamp(max=1000)
    return bounded / (bounded + 1)
