"""The parameter groups of a network: which weights learn at which rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from atelier.adapters.targets import TEXT_PARTS, UNET

if TYPE_CHECKING:
    from atelier.adapters.network import Network


def parameter_groups(
    network: Network, unet_lr: float, text_encoder_lrs: Sequence[float] | float | None
) -> list[dict[str, Any]]:
    """See `Network.parameter_groups`."""
    arguments = network.config.arguments
    common = _ratio(arguments.get("loraplus_lr_ratio"))
    ratios = {
        UNET: _ratio(arguments.get("loraplus_unet_lr_ratio")) or common,
        "text_encoder": _ratio(arguments.get("loraplus_text_encoder_lr_ratio")) or common,
    }
    rates = text_rates(unet_lr, text_encoder_lrs)
    groups: list[dict[str, Any]] = []
    for part, rate in [*zip(TEXT_PARTS, rates), (UNET, unet_lr)]:
        ratio = ratios[UNET if part == UNET else "text_encoder"]
        plain: list[nn.Parameter] = []
        up: list[nn.Parameter] = []
        for name, layer in network.layers.items():
            if network.targets[name].part == part:
                for key, parameter in layer.named_parameters():
                    parameter.requires_grad_(rate != 0)
                    (up if ratio and key == "lora_up" else plain).append(parameter)
        if rate != 0:
            groups.append({"params": plain, "lr": rate, "name": part})
            groups.append({"params": up, "lr": rate * (ratio or 1.0), "name": f"{part} up"})
    return [group for group in groups if group["params"]]


def text_rates(unet_lr: float, given: Sequence[float] | float | None) -> list[float]:
    """One rate for each of two text encoders."""
    if given is None:
        return [unet_lr] * len(TEXT_PARTS)
    if isinstance(given, (int, float)):
        return [float(given)] * len(TEXT_PARTS)
    rates = [float(rate) for rate in given] or [unet_lr]
    return (rates + [rates[-1]] * len(TEXT_PARTS))[: len(TEXT_PARTS)]


def _ratio(text: str | None) -> float | None:
    return float(text) if text else None
