"""Blocks that compute in a module's own precision, whatever autocast is on around them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

KNOWN = ("cpu", "cuda", "xpu")
"""torch 2.1 has no autocast for "mps", not even one to turn off."""


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off inside the block. A VAE in float32 would else overflow in half precision as a half one does."""
    return torch.autocast(device.type, enabled=False) if device.type in KNOWN else nullcontext()
