"""Which numbers the forward and backward passes compute with."""

from __future__ import annotations

import torch

from atelier.config.errors import AtelierError

LARGE = 100_000_000
"""Parameters of a UNet from which bf16 pays on a processor; below it, casting costs more than it saves.

`benchmarks/` measures both, docs/performance.md has the figures.
"""


def computes_bf16(device: torch.device) -> bool:
    """True when the device multiplies bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return bool(supported and supported()) and "AVX512" in torch.backends.cpu.get_cpu_capability()
    return False


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
