"""Predicts what the VAE needs beside its weights, for a picture that it encodes or decodes."""

from __future__ import annotations

import functools
import json
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch._subclasses.fake_tensor import FakeTensorMode

from atelier.models.registry import family_named
from atelier.training.memory.fakes import fake, fake_pixels, stand_in
from atelier.training.memory.request import Request
from atelier.training.memory.tracking import LiveBytes


@dataclass(frozen=True)
class VaeBytes:
    """Peaks in bytes beside the weights, for one picture."""

    encoding: int
    decoding: int
    """As a whole. A sample picture for which there is no room is decoded in tiles, so no plan counts this."""


@functools.lru_cache(maxsize=64)
def predict_vae(request: Request) -> VaeBytes:
    """The peaks of the VAE for a picture of the request's size. Raises `KeyError` for a model without a VAE."""
    config = json.loads(request.configs)["vae"]
    family = family_named(request.family)
    live = LiveBytes(request.counts_workspaces)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(live)
        dtype = stand_in(request.vae_dtype, request.autocast)
        vae = fake(AutoencoderKL, config, dtype)
        weights = live.now
        live.new_peak()
        family.posterior(vae, fake_pixels(request, 1, dtype))
        encoding = live.peak - weights
        live.new_peak()
        step = family.pixel_step
        size = (1, family.latent_channels, request.height // step, request.width // step)
        vae.decode(torch.empty(size, dtype=dtype), return_dict=False)[0].float()
        return VaeBytes(encoding, live.peak - weights)
