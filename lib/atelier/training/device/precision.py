"""Which numbers the forward and backward passes compute with."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from atelier.config.errors import AtelierError

LARGE = 100_000_000
"""Parameters of a UNet from which bf16 pays on a processor; below it, casting costs more than it saves.

`python run.py bench` measures both, docs/performance.md has the figures.
"""

PAYS = 0.75
"""A processor computes in bf16 when its time is at most this share of float32's."""


def computes_bf16(device: torch.device) -> bool:
    """True when the device multiplies bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bf16_time() <= PAYS


@lru_cache(maxsize=1)
def bf16_time() -> float:
    """The time of a matrix product in bf16 over that in float32 on this processor, measured once, in some 50 ms.

    What torch says of a processor does not tell: oneDNN takes bf16 wherever there is AVX-512, and where the
    instructions for it are missing, it takes four times as long as float32.
    """
    return _product_seconds(torch.bfloat16) / _product_seconds(torch.float32)


@torch.no_grad()
def _product_seconds(dtype: torch.dtype) -> float:
    """The least of some tries: the machine may be busy."""
    rows = torch.ones(256, 640, dtype=dtype)
    weight = torch.ones(640, 640, dtype=dtype)
    torch.nn.functional.linear(rows, weight)
    tries = []
    for _ in range(7):
        begun = time.perf_counter()
        torch.nn.functional.linear(rows, weight)
        tries.append(time.perf_counter() - begun)
    return min(tries)


def choose(asked: str, device: torch.device, unet_parameters: int, base: torch.dtype | None = None) -> str:
    """ "no", "fp16" or "bf16" for kohya's mixed_precision, or for "auto" the best that the device has.

    On a GPU a borrowed `base` in fp16 is computed in fp16, with scaled losses, as the host draws with it: in bf16,
    autocast would make a copy of every weight and keep it for the backward pass.

    Raises `AtelierError` when the device cannot do what was asked.
    """
    if asked == "auto":
        if device.type == "cpu":
            return "bf16" if unet_parameters >= LARGE and computes_bf16(device) else "no"
        if device.type == "cuda" and base is torch.float16:
            return "fp16"
        if computes_bf16(device):
            return "bf16"
        return "fp16" if device.type == "cuda" else "no"
    if asked == "fp16" and device.type == "cpu":
        raise AtelierError("mixed_precision is fp16, which a processor cannot train in; choose bf16 or no.")
    return asked


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The type that matrix products run in, None for plain float32."""
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
