"""The demo base's autoencoder: 64 x 64 pictures to 8 x 8 latents of 4 channels and back.

It starts wired to pass on each patch's mean colour; from an ordinary random start so small an autoencoder spends
most of its time finding colour at all. Noise on the latents while training makes the decoder forgive what the UNet
gets slightly wrong.
"""

from __future__ import annotations

import time

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch.nn import functional

from atelier.demo.budget import Average, Budget, Report, learning_rate

SCALING_FACTOR = 0.18215
BATCH = 8
PEAK_RATE = 3e-3
REPORT = 200
NOISE = 0.1
"""Standard deviation of the noise on the latents while training, in units of their own."""

POSTERIOR = 0.05
"""Standard deviation of the finished encoder's posterior, in units of the latents'."""

FAINT = 0.5
"""How much of their random start the convolutions of the trunk keep beside the path laid through them."""


def new_vae() -> AutoencoderKL:
    """SD 1.x's autoencoder with fewer channels and layers, untrained."""
    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=SCALING_FACTOR,
    )


@torch.no_grad()
def wire(vae: AutoencoderKL) -> None:
    """Starts the autoencoder as a path that hands each patch's mean colour down and up again.

    Every residual branch starts at zero. On the trunk each convolution passes its input channels on (averaging
    where it halves the picture) next to its random weights, faint enough to leave them readable.
    """
    for block in [m for m in vae.modules() if isinstance(m, ResnetBlock2D)]:
        block.conv2.weight.zero_()
        block.conv2.bias.zero_()
        if block.conv_shortcut is not None:
            _pass_on(block.conv_shortcut)
    for attention in [m for m in vae.modules() if isinstance(m, Attention)]:
        attention.to_out[0].weight.zero_()
        attention.to_out[0].bias.zero_()
    for sampler in [m for m in vae.modules() if isinstance(m, (Downsample2D, Upsample2D))]:
        _pass_on(sampler.conv)
    for end in (vae.encoder.conv_in, vae.encoder.conv_out, vae.quant_conv):
        _pass_on(end)
    for end in (vae.decoder.conv_in, vae.decoder.conv_out, vae.post_quant_conv):
        _pass_on(end)


def _pass_on(conv: torch.nn.Conv2d) -> None:
    """Adds the identity on the channels both sides have to a convolution's weights, made fainter."""
    conv.weight *= FAINT
    same = range(min(conv.in_channels, conv.out_channels))
    if conv.stride == (2, 2):  # diffusers pads right and below, so the kernel's upper left covers the 2 x 2 patch
        for channel in same:
            conv.weight[channel, channel, :2, :2] += 0.25
    else:
        middle = conv.kernel_size[0] // 2
        for channel in same:
            conv.weight[channel, channel, middle, middle] += 1


def halves_pay(vae: AutoencoderKL, pictures: torch.Tensor) -> bool:
    """Whether this CPU is faster in bfloat16: times a step each way, after one to warm up."""
    seconds = {}
    for half in (True, False, True, False):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            decoded = vae.decode(vae.encode(pictures.float() / 127.5 - 1).latent_dist.mean).sample
        decoded.float().square().mean().backward()
        seconds[half] = time.process_time() - start
    vae.zero_grad()
    return seconds[True] < seconds[False]


def build_vae(pictures: torch.Tensor, seconds: float, seed: int, report: Report) -> AutoencoderKL:
    """Trains on `pictures` (count, 3, 64, 64) uint8 for `seconds` of CPU time; returns it frozen.

    Its latents, times 0.18215, have mean 0 and deviation 1 in each channel over these pictures.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    vae = new_vae()
    wire(vae)
    average = Average(vae, decay=0.99)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    budget, step, recent = Budget(seconds), 0, 0.0
    half = halves_pay(vae, pictures[:BATCH])
    while budget.progress() < 1:
        picked = torch.randint(0, len(pictures), (BATCH,), generator=generator)
        batch = pictures[picked].float() / 127.5 - 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(budget.progress(), step, PEAK_RATE)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            latents = vae.encode(batch).latent_dist.mean.float()
            noisy = latents + NOISE * latents.detach().std() * torch.randn(latents.shape, generator=generator)
            decoded = vae.decode(noisy).sample.float()
        loss = functional.l1_loss(decoded, batch) + functional.mse_loss(decoded, batch)
        optimizer.zero_grad()
        (loss + 1e-3 * latents.pow(2).mean()).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update()
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % REPORT == 0:
            report(f"Autoencoder: step {step}, {budget.progress():.0%} of its time, error {recent:.4f}.")
        step += 1
    average.write_back()
    vae.eval().requires_grad_(False)
    rescale(vae, pictures[:512])
    report(f"Autoencoder: {step} steps, error {recent:.4f}.")
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Unscaled mean latents (count, 4, 8, 8) of `pictures` (count, 3, 64, 64) uint8."""
    parts = [vae.encode(part.float() / 127.5 - 1).latent_dist.mean for part in pictures.split(64)]
    return torch.cat(parts)


@torch.no_grad()
def rescale(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Makes latents times SCALING_FACTOR standard in each channel, and fixes the posterior's deviation.

    The change goes into the 1 x 1 convolutions on either side of the latents, so what is decoded stays the same.
    """
    latents = encode(vae, pictures)
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    target = 1 / SCALING_FACTOR
    gain = target / deviation
    before, after = vae.quant_conv, vae.post_quant_conv
    before.weight[:4] *= gain[:, None, None, None]
    before.bias[:4] = (before.bias[:4] - mean) * gain
    before.weight[4:] = 0
    before.bias[4:] = 2 * torch.log(torch.tensor(POSTERIOR * target))
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight /= gain[None, :, None, None]
