"""The parameter groups of a network: which weights get which learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from atelier.adapters.layers.blocks import block_of, block_rates
from atelier.adapters.layers.targets import TEXT_PARTS, UNET, Target
from atelier.config.errors import AtelierError
from atelier.config.kohya.network_args import NETWORK_ARGS


def parameter_groups(
    adapters: nn.ModuleDict,
    targets: Mapping[str, Target],
    arguments: Mapping[str, str],
    family: str,
    unet_lr: float,
    text_encoder_lrs: Sequence[float] | float | None,
) -> list[dict[str, Any]]:
    """See `Network.parameter_groups`. `adapters` and `targets`: by layer name. `arguments`: the network_args."""
    common = _ratio(arguments, "loraplus_lr_ratio")
    unet_ratio = _ratio(arguments, "loraplus_unet_lr_ratio") or common
    text_ratio = _ratio(arguments, "loraplus_text_encoder_lr_ratio") or common
    layers: dict[str, list[nn.Module]] = {part: [] for part in (*TEXT_PARTS, UNET)}
    blocks: dict[int, list[nn.Module]] = {}
    factors = block_rates(arguments, family)
    for name, layer in adapters.items():
        part = targets[name].part
        layers[part].append(layer)
        block = block_of(name) if part == UNET else None
        if block is not None:
            blocks.setdefault(block, []).append(layer)
    groups: list[dict[str, Any]] = []
    for part, rate in zip(TEXT_PARTS, text_rates(unet_lr, text_encoder_lrs)):
        groups += _groups(part, layers[part], rate, text_ratio)
    if factors is None:
        return groups + _groups(UNET, layers[UNET], unet_lr, unet_ratio)
    for block, members in blocks.items():
        groups += _groups(f"{UNET} block {block}", members, unet_lr * factors[block], unet_ratio)
    return groups


def _groups(name: str, layers: Sequence[nn.Module], rate: float, ratio: float | None) -> list[dict[str, Any]]:
    """One group, or two when the `up` weights have their own learning rate (LoRA+, arXiv:2402.12354)."""
    plain: list[nn.Parameter] = []
    up: list[nn.Parameter] = []
    for layer in layers:
        for key, parameter in layer.named_parameters():
            parameter.requires_grad_(rate != 0)
            (up if ratio and "lora_up" in key else plain).append(parameter)
    if rate == 0:
        return []
    found = [
        {"params": plain, "lr": rate, "name": name},
        {"params": up, "lr": rate * (ratio or 1.0), "name": f"{name} up"},
    ]
    return [group for group in found if group["params"]]


def text_rates(unet_lr: float, given: Sequence[float] | float | None) -> list[float]:
    """The learning rates of two text encoders."""
    if given is None:
        return [unet_lr] * len(TEXT_PARTS)
    if isinstance(given, (int, float)):
        return [float(given)] * len(TEXT_PARTS)
    rates = [float(rate) for rate in given] or [unet_lr]
    return (rates + [rates[-1]] * len(TEXT_PARTS))[: len(TEXT_PARTS)]


def _ratio(arguments: Any, key: str) -> float | None:
    text = arguments.get(key)
    try:
        return float(text) if text else None
    except ValueError as error:
        raise AtelierError(f"{NETWORK_ARGS}: {key} is {text!r}; it must be a number.") from error
