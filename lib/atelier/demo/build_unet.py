"""The demo base's UNet: SD 1.x's blocks with fewer channels, trained to predict the noise on 8 x 8 latents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel

from atelier.demo.budget import Average, Budget, Report, learning_rate
from atelier.demo.build_text import HIDDEN_SIZE

BATCH = 32
PEAK_RATE = 1.5e-3
STEPS = 1000
GROUPS = 8
"""Of the group normalisations. SD 1.x's 32 would leave one channel to a group here: each channel's mean, and with it
the colour of the background, would be normalised away."""

MOST_SIGNAL = 2.0
"""Timesteps with a higher signal-to-noise ratio than this count for less, as in min-SNR weighting (Hang et al.,
2023): what little noise they have is not what shapes and colours are decided by."""

NO_CAPTION = 0.1
"""Share of the examples that learn without their caption, which guidance needs."""

HEAD_TOKENS = 16
"""The longest caption of the grammar and one end-of-text token fit in this many tokens."""

TAIL_TOKENS = 4
"""How many of the padding tokens behind them a training step attends to."""


def new_unet() -> UNet2DConditionModel:
    """SD 1.x's UNet with fewer channels and one layer a block, untrained."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 96, 128),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        layers_per_block=1,
        cross_attention_dim=HIDDEN_SIZE,
        attention_head_dim=8,
        norm_num_groups=GROUPS,
    )


def kept_signal() -> torch.Tensor:
    """(1000,) the share of the clean latents' variance left at each timestep: scaled_linear, 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


def some_tokens(states: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A cheaper stand-in for 77 prompt embeddings (batch, 77, width): the first 16 and 4 of the padding ones.

    Returns them (batch, 20, width) with a mask (batch, 20) for `encoder_attention_mask`, in which the four weigh as
    much as the 61 they stand for. diffusers adds (1 - mask) * -10000 to the scores, so the mask that adds
    log(61 / 4) is 1 + log(61 / 4) / 10000.
    """
    padding = states.shape[1] - HEAD_TOKENS
    tail = HEAD_TOKENS + torch.randperm(padding, generator=generator)[:TAIL_TOKENS]
    kept = torch.cat([torch.arange(HEAD_TOKENS), tail])
    mask = torch.ones(len(states), len(kept))
    mask[:, HEAD_TOKENS:] += math.log(padding / TAIL_TOKENS) / 10000
    return states[:, kept], mask


def spread_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """(count,) timesteps, one from each of `count` equal parts of 0…999, in random order."""
    places = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return (places * STEPS).long().clamp(max=STEPS - 1)


def build_unet(
    latents: torch.Tensor,
    captions: Sequence[torch.Tensor],
    no_caption: torch.Tensor,
    seconds: float,
    seed: int,
    report: Report,
) -> UNet2DConditionModel:
    """Trains for `seconds` of CPU time; returns the averaged UNet, frozen.

    `latents` (count, 4, 8, 8) are scaled; `captions[i]` (77, 64) are the prompt embeddings of example i; `no_caption`
    (77, 64) are those of the empty caption.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    unet = new_unet()
    average = Average(unet, decay=0.995)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    signal = kept_signal()
    budget, step, recent = Budget(seconds), 0, 0.0
    while budget.progress() < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(budget.progress(), step, PEAK_RATE)
        picked = torch.randint(0, len(latents), (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < NO_CAPTION
        states = torch.stack(
            [no_caption if drop else captions[index] for index, drop in zip(picked.tolist(), dropped.tolist())]
        )
        context, mask = some_tokens(states, generator)
        clean = latents[picked]
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = spread_timesteps(BATCH, generator)
        kept = signal[timesteps][:, None, None, None]
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        predicted = unet(noisy, timesteps, context, encoder_attention_mask=mask).sample
        weight = (MOST_SIGNAL * (1 - kept) / kept).clamp(max=1)
        loss = (weight * (predicted - noise).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update()
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % 200 == 0:
            report(f"UNet: step {step}, {budget.progress():.0%} of its time, error {recent:.4f}.")
        step += 1
    average.write_back()
    report(f"UNet: {step} steps, error {recent:.4f}.")
    return unet.eval().requires_grad_(False)
