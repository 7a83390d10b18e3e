"""Avoids fused attention where the installed torch, or a replacement by the WebUI, computes it wrongly."""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn
from torch.nn import functional

from atelier.config.packages import release

TORCHS = torch._C._nn.scaled_dot_product_attention
"""torch's own fused attention."""


def flash_is_sound(device: torch.device, version: str = torch.__version__) -> bool:
    """False on a CPU with torch before 2.3.

    The backward pass of torch 2.1.2's fused attention on CPUs, run by two threads on a UNet of SD 1.5's size, wrote
    past its memory and crashed the process. 2.3.1 and 2.13.0 did not; 2.2 was not tried.
    """
    return device.type != "cpu" or release(version) >= (2, 3)


def is_replaced() -> bool:
    """True when a WebUI has replaced torch's attention in the whole process.

    SageAttention and others have no backward pass: queries, keys and values would silently learn nothing.
    """
    return functional.scaled_dot_product_attention is not TORCHS


def use_sound_attention(module: nn.Module, version: str = torch.__version__) -> None:
    """Gives a diffusers module plain attention, by matrix products, where fused attention is unsafe.

    Where torch's attention was replaced, only this module gets torch's back.
    """
    parameter = next(module.parameters(), None)
    if parameter is None or not hasattr(module, "set_attn_processor"):
        return
    if not flash_is_sound(parameter.device, version):
        module.set_attn_processor(AttnProcessor())
    elif is_replaced():
        module.set_attn_processor(torchs_processor())


def torchs_processor() -> AttnProcessor2_0:
    """diffusers' own fused processor, but bound to torch's own attention, whatever has replaced it."""
    call: Any = AttnProcessor2_0.__call__
    names = {**call.__globals__, "F": _Functional("functional with torch's attention")}
    bound = FunctionType(call.__code__, names, call.__name__, call.__defaults__, call.__closure__)
    bound.__kwdefaults__ = call.__kwdefaults__
    return type("TorchAttention", (AttnProcessor2_0,), {"__call__": bound})()


class _Functional(ModuleType):
    """torch.nn.functional with torch's own attention."""

    scaled_dot_product_attention = staticmethod(TORCHS)

    def __getattr__(self, name: str) -> Any:
        return getattr(functional, name)
