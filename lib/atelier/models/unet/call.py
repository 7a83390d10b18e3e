"""Calls a diffusers UNet, whatever the precision of its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def call_unet(
    unet: nn.Module,
    latents: Tensor,
    timesteps: Tensor,
    hidden: Tensor,
    added: dict[str, Tensor] | None = None,
) -> Tensor:
    """The prediction [B, 4, h, w], in the precision of `latents`.

    Inputs are cast to the precision of the UNet's weights, which autocast would do itself. `added` are SDXL's
    conditions. Sizes in pixels are not cast, since half precision would round them; the UNet casts its embeddings of
    them. Timesteps [B], whole or fractional, are not cast either.
    """
    dtype = weight_dtype(unet)
    more: dict[str, Any] = {}
    if added is not None:
        more["added_cond_kwargs"] = added
    states = hidden.to(dtype)
    out = unet(latents.to(dtype), timesteps, encoder_hidden_states=states, return_dict=False, **more)[0]
    return out.to(latents.dtype)


def weight_dtype(module: nn.Module) -> torch.dtype:
    """The precision of a module's own weights: that of its first floating-point parameter."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32
