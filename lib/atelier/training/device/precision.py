"""Chooses the precision of the forward and backward passes."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from atelier.config.errors import Problem, SettingsError
from atelier.config.settings.schema import labelled

LARGE = 100_000_000
"""Parameters of a UNet from which bf16 pays on a CPU. For smaller models casting costs more than bf16 saves.

`python run.py bench` measures both; docs/performance.md has the figures.
"""

AMPERE = (8, 0)
"""Compute capability from which NVIDIA's cards multiply bf16 in hardware."""

PAYS = 0.75
"""A CPU computes in bf16 when this takes at most this share of float32's time."""


def computes_bf16(device: torch.device) -> bool:
    """True when the device multiplies bf16 in hardware.

    Since 2.2, torch also says yes for emulated bf16: on an RTX 20 it has a fraction of the speed of fp16.
    """
    if device.type == "cuda":
        if torch.version.hip is not None:
            return torch.cuda.is_bf16_supported()
        return torch.cuda.get_device_capability(device) >= AMPERE
    return device.type == "cpu" and bf16_time() <= PAYS


def _halves_badly(device: torch.device) -> bool:
    """True for the GTX 16 cards, which have no tensor cores and are known for NaN in fp16."""
    return "GTX 16" in torch.cuda.get_device_name(device)


@lru_cache(maxsize=1)
def bf16_time() -> float:
    """Time of a bf16 matrix product divided by that in float32 on this CPU, measured once in about 50 ms.

    torch cannot say whether bf16 pays: oneDNN accepts bf16 on every CPU with AVX-512, and without instructions for
    bf16 it takes four times as long as float32.
    """
    return _product_seconds(torch.bfloat16) / _product_seconds(torch.float32)


@torch.no_grad()
def _product_seconds(dtype: torch.dtype) -> float:
    """The shortest time of several tries, since the machine may be busy."""
    rows = torch.ones(256, 640, dtype=dtype)
    weight = torch.ones(640, 640, dtype=dtype)
    torch.nn.functional.linear(rows, weight)
    tries = []
    for _ in range(7):
        begun = time.perf_counter()
        torch.nn.functional.linear(rows, weight)
        tries.append(time.perf_counter() - begun)
    return min(tries)


def choose(
    asked: str,
    device: torch.device,
    unet_parameters: int,
    base: torch.dtype | None = None,
    full_bf16: bool = False,
) -> str:
    """ "no", "fp16" or "bf16" for kohya's mixed_precision; for "auto" the precision that suits the device.

    On a GPU, a borrowed `base` in fp16 is computed in fp16 with scaled losses, as the WebUI draws with it. In bf16,
    autocast would make a copy of every weight and keep it for the backward pass. With bf16 weights (`full_bf16`),
    gradients are bf16 too, which a loss scaler does not accept. "no" with a base in fp16 would compute in fp16 without
    scaled losses, where gradients vanish; so bf16 or fp16 is used there, see `remark`.

    Raises `AtelierError` when the device, or full_bf16, cannot do what was asked.
    """
    if full_bf16 and asked == "fp16":
        allowed = f"with {labelled('full_bf16')} everything is bf16: choose bf16 or auto, or turn that off"
        raise SettingsError([Problem("mixed_precision", asked, allowed)])
    on_gpu = device.type == "cuda"
    if asked == "auto":
        if device.type == "cpu":
            return "bf16" if unet_parameters >= LARGE and computes_bf16(device) else "no"
        if full_bf16:
            return "bf16"
        if on_gpu and base is torch.float16:
            return "fp16"
        if computes_bf16(device):
            return "bf16"
        return "fp16" if on_gpu and not _halves_badly(device) else "no"
    if asked == "no" and on_gpu and base is torch.float16 and not full_bf16:
        return "bf16" if computes_bf16(device) else "fp16"
    if asked == "fp16" and device.type == "cpu":
        raise SettingsError([Problem("mixed_precision", asked, "a CPU cannot train in fp16; choose bf16 or no")])
    return asked


def remark(asked: str, chosen: str) -> str | None:
    """A sentence for the person when `chosen` is another precision than `asked`, else None."""
    if asked in ("auto", chosen):
        return None
    return (
        f"{labelled('mixed_precision')} is {chosen} instead of {asked}. The base is in fp16, and without mixed "
        "precision gradients would be too small for fp16. To train without it, load the base in float32."
    )


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The precision of matrix products; None for float32."""
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
