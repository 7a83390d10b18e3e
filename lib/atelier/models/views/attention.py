"""Attention that computes rightly on the torch that is there."""

from __future__ import annotations

import torch
from torch import nn

from atelier.config.packages import release


def flash_is_sound(device: torch.device, version: str = torch.__version__) -> bool:
    """False on a processor with torch before 2.3.

    The backward pass of torch 2.1.2's fused attention for processors, run by two threads on a UNet of SD 1.5's size,
    wrote past its memory and ended the process; 2.3.1 and 2.13.0 did not. 2.2 was not tried.
    """
    return device.type != "cpu" or release(version) >= (2, 3)


def use_sound_attention(module: nn.Module, version: str = torch.__version__) -> None:
    """Gives a diffusers module plain attention, in matrix products, where the fused one is not sound."""
    parameter = next(module.parameters(), None)
    if parameter is None or not hasattr(module, "set_attn_processor") or flash_is_sound(parameter.device, version):
        return
    from diffusers.models.attention_processor import AttnProcessor

    module.set_attn_processor(AttnProcessor())
