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

AMPERE = (8, 0)
"""The compute capability from which NVIDIA's cards multiply bf16."""

PAYS = 0.75
"""A processor computes in bf16 when its time is at most this share of float32's."""


def computes_bf16(device: torch.device) -> bool:
    """True when the device multiplies bf16 in hardware.

    torch counts what it emulates since 2.2: an RTX 20 would have bf16, at a fraction of the speed of fp16.
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


def choose(
    asked: str,
    device: torch.device,
    unet_parameters: int,
    base: torch.dtype | None = None,
    full_bf16: bool = False,
) -> str:
    """ "no", "fp16" or "bf16" for kohya's mixed_precision, or for "auto" the best that the device has.

    On a GPU a borrowed `base` in fp16 is computed in fp16, with scaled losses, as the host draws with it: in bf16,
    autocast would make a copy of every weight and keep it for the backward pass. Weights that are bf16 themselves
    (`full_bf16`) have gradients in bf16, which a loss scaler does not take. "no" over an fp16 base would compute in
    fp16 without scaled losses, where gradients vanish: there it is bf16 or fp16, see `remark`.

    Raises `AtelierError` when the device, or full_bf16, cannot do what was asked.
    """
    if full_bf16 and asked == "fp16":
        raise AtelierError(
            "Mixed precision (mixed_precision) is fp16, but with All in bf16 (full_bf16) everything is bf16: choose "
            "bf16 or auto, or turn All in bf16 off."
        )
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
        raise AtelierError("mixed_precision is fp16, which a CPU cannot train in; choose bf16 or no.")
    return asked


def remark(asked: str, chosen: str) -> str | None:
    """What to tell where another precision was taken than the one that was asked for."""
    if asked in ("auto", chosen):
        return None
    return (
        f"Mixed precision is {chosen} instead of {asked}: the base is in fp16, and without mixed precision gradients "
        "would be too small for fp16 to hold. To train without it, load the base in float32."
    )


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The type that matrix products run in, None for plain float32."""
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
