"""Configuration values that a UNet of LDM's kind has as attributes."""

from __future__ import annotations

from typing import Any

from torch import nn


def unet_overrides(unet: nn.Module) -> dict[str, dict[str, Any]]:
    """What the shapes of its weights do not tell: the number of attention heads, where the UNet says it."""
    heads, width = getattr(unet, "num_heads", -1), getattr(unet, "num_head_channels", -1)
    if isinstance(heads, int) and heads > 0 and width in (-1, None):
        return {"unet": {"attention_head_dim": heads}}
    return {}
