"""The kinds of adapter from the package lycoris-lora: LoHa, LoKr, (IA)³, OFT, BOFT, DoRA, and LoRA with its presets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from atelier.adapters.config import NetworkConfig
from atelier.adapters.kinds.algorithms import LYCORIS, algorithm, decomposed, flag, lycoris_name
from atelier.adapters.kinds.lora import lora_layers
from atelier.adapters.kinds.lycoris_layers import lycoris_layers
from atelier.adapters.layers.names import all_layers
from atelier.adapters.layers.presets import UNET_TRANSFORMERS, preset_of
from atelier.adapters.layers.targets import TEXT_PARTS, UNET, Target
from atelier.config.errors import AtelierError
from atelier.config.kohya.network_args import NETWORK_ARGS
from atelier.models.family import Parts

Ranks = list[tuple[Target, int, float | None]]
"""Layers with their dims and alphas."""


def chosen_layers(parts: Parts, config: NetworkConfig) -> list[tuple[NetworkConfig, Ranks]]:
    """(settings, layers) for every group of layers that the preset treats alike; text encoders first in each.

    Raises `AtelierError` for a preset that cannot be used.
    """
    preset = preset_of(config)
    if preset.unet_classes & UNET_TRANSFORMERS:  # LyCORIS' word for the blocks of Stable Diffusion; others have theirs
        preset = replace(preset, unet_classes=preset.unet_classes | parts.family.adaptable.denoiser)
    found = {UNET: preset.layers(UNET, parts.denoiser)} if config.unet else {}
    if config.text_encoders:
        found.update({part: preset.layers(part, encoder) for part, encoder in zip(TEXT_PARTS, parts.text_encoders)})
    groups: dict[tuple[tuple[str, str], ...], tuple[NetworkConfig, Ranks]] = {}
    for target in all_layers(parts):
        override = found.get(target.part, {}).get(target.path)
        if override is None:
            continue
        key = tuple(sorted(override.items()))
        if key not in groups:
            groups[key] = (config.overridden(override), [])
        rank = _rank(groups[key][0], target, preset.convolutions or "dim" in override)
        if rank is not None:
            groups[key][1].append((target, *rank))
    return [group for group in groups.values() if group[1]]


def _rank(config: NetworkConfig, target: Target, convolutions: bool) -> tuple[int, float | None] | None:
    """Dim and alpha of one layer; None leaves it out."""
    if config.dims is not None:
        return config.dims.get(target.name)
    if not target.is_spatial:
        return config.dim, config.alpha
    conv_dim = config.dim if config.conv_dim is None else config.conv_dim
    if not convolutions or not conv_dim:
        return None
    return conv_dim, config.alpha if config.conv_alpha is None else config.conv_alpha


def _all_layers(parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
    """The layers of a network of the configured kind. LoRA and LoCon without extras are our own layers.

    Raises `AtelierError` for an unknown kind or preset, or when LyCORIS is needed and not installed.
    """
    if flag(config.arguments, "train_norm"):
        raise AtelierError(f"{NETWORK_ARGS}: train_norm is not supported. Remove it to train without norms.")
    algorithm(config)
    layers: list[tuple[Target, Any]] = []
    for alike, chosen in chosen_layers(parts, config):
        layers += _layers_of(chosen, alike, seed)
    return layers


def _layers_of(chosen: Ranks, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
    kind, arguments = algorithm(config), config.arguments
    extras = any(flag(arguments, key) for key in ("use_tucker", "use_cp", "use_conv_cp", "use_scalar"))
    if kind in ("lora", "locon") and not extras and not decomposed(arguments):
        stable = flag(arguments, "rs_lora")
        ranks = [(target, (dim, (alpha or dim) * math.sqrt(dim) if stable else alpha)) for target, dim, alpha in chosen]
        return lora_layers(ranks, config, seed)
    return lycoris_layers(chosen, kind, config, seed)


class Lycoris:
    """Implements `adapters.kind.Kind` for LyCORIS' values of network_module."""

    modules: Sequence[str] = LYCORIS

    def name(self, config: NetworkConfig) -> str:
        """ "lora", "locon", "dora", "loha", "lokr", "ia3", "oft" or "boft"."""
        return lycoris_name(config)

    def layers(self, parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
        """The layers that the preset chooses."""
        return _all_layers(parts, config, seed)


KIND = Lycoris()
