"""Encoding with less memory gives the bits of diffusers' own encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch._subclasses.fake_tensor import FakeTensorMode

from atelier.models.unet.vae_encoding import encode
from atelier.training.memory.tracking import LiveBytes


def small_vae(**changes: Any) -> AutoencoderKL:
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "block_out_channels": (16, 32, 32), "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3, "norm_num_groups": 8, "latent_channels": 4, "layers_per_block": 2,
    }  # fmt: skip
    return AutoencoderKL(**{**config, **changes}).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 40, 72)])
def test_the_same_bits(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    vae, pixels = small_vae().to(dtype), torch.rand(shape).to(dtype) * 2 - 1
    before = pixels.clone()
    with torch.no_grad():
        wanted = vae.encode(pixels).latent_dist
    found = encode(vae, pixels)
    assert torch.equal(found.mean, wanted.mean) and torch.equal(found.std, wanted.std)
    assert torch.equal(pixels, before)


def test_an_encoder_that_somebody_watches_is_called_as_it_is() -> None:
    vae, pixels, seen = small_vae(), torch.rand(1, 3, 32, 32), []
    vae.encoder.down_blocks[0].register_forward_hook(lambda *given: seen.append(1))
    with torch.no_grad():
        wanted = vae.encode(pixels).latent_dist.mean
    assert torch.equal(encode(vae, pixels).mean, wanted) and len(seen) == 2
    tiled = small_vae()
    tiled.enable_tiling()
    with torch.no_grad():
        wanted = tiled.encode(pixels).latent_dist.mean
    assert torch.equal(encode(tiled, pixels).mean, wanted)


def test_it_needs_less() -> None:
    """Three feature maps of the first stage, where diffusers has five."""
    peaks = []
    for work in (lambda vae, pixels: vae.encode(pixels).latent_dist.mean, lambda vae, pixels: encode(vae, pixels).mean):
        live = LiveBytes()
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), live:
            vae = small_vae()
            weights = live.now
            work(vae, torch.empty(1, 3, 256, 256))
            peaks.append((live.peak - weights) / (16 * 256 * 256 * 4))
    assert peaks[0] > 4.9 and peaks[1] < 3.5
