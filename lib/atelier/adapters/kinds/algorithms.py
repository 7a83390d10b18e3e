"""The kinds of adapter beside the plain LoRA: which there are, and their layers.

network_module "lycoris.kohya" takes its kind from network_args: algo=lora, locon, loha, lokr, ia3, diag-oft, boft,
with dora_wd=True for DoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from atelier.adapters.config import NetworkConfig
from atelier.adapters.layers.names import all_layers
from atelier.adapters.layers.presets import preset_of
from atelier.adapters.layers.targets import TEXT_PARTS, UNET, Target
from atelier.config.errors import AtelierError
from atelier.models.family import Parts

LYCORIS = ("lycoris.kohya", "lycoris.locon_kohya", "locon.locon_kohya")
ALGORITHMS = ("lora", "locon", "loha", "lokr", "ia3", "diag-oft", "boft")
_SYNONYMS = {"oft": "diag-oft", "diag_oft": "diag-oft", "dora": "locon"}
FROM_INPUT = ("ff.net.2", "mlp.fc2")
"""Layers whose inputs the preset ia3 scales, not their outputs."""


def algorithm(config: NetworkConfig) -> str:
    """The kind of adapter as LyCORIS names it. Raises `AtelierError` for one that cannot be trained here."""
    if config.module not in LYCORIS:
        raise AtelierError(
            f"network_module {config.module!r} cannot be trained here; use networks.lora, or lycoris.kohya with "
            f"network_args algo=NAME ({', '.join(ALGORITHMS)})."
        )
    name = (config.arguments.get("algo") or "lora").lower()
    name = _SYNONYMS.get(name, name)
    if name not in ALGORITHMS:
        raise AtelierError(f"network_args: algo={name} cannot be trained here; use one of {', '.join(ALGORITHMS)}.")
    return name


def kind_name(config: NetworkConfig) -> str:
    """What a file of this network will be, as `LoRAFile.kind` says it: "lora", "locon", "dora", "loha" …

    Raises `AtelierError` for a kind that cannot be trained here.
    """
    if config.module in ("", "networks.lora"):
        return "locon" if config.conv_dim or config.arguments.get("conv_block_dims") else "lora"
    kind = algorithm(config)
    if kind in ("lora", "locon"):
        if decomposed(config.arguments):
            return "dora"
        return "locon" if preset_of(config).convolutions and config.conv_dim != 0 else "lora"
    return "oft" if kind == "diag-oft" else kind


def flag(arguments: Mapping[str, str], key: str) -> bool:
    """A yes or no from network_args."""
    return str(arguments.get(key, "")).lower() in ("true", "1", "yes", "on")


def decomposed(arguments: Mapping[str, str]) -> bool:
    """True when the weights' lengths are trained apart from their directions, as DoRA does."""
    return flag(arguments, "dora_wd") or _says_dora(arguments)


def on_outputs(arguments: Mapping[str, str]) -> bool:
    """True when DoRA's lengths are those of the rows, one an output, as LyCORIS takes them without wd_on_output.

    algo=dora, a name of ours, takes those of the columns: that is how every WebUI reads them.
    """
    if not arguments.get("wd_on_output"):
        return not _says_dora(arguments)
    return str(arguments["wd_on_output"]).lower() not in ("false", "0", "no", "off")


def _says_dora(arguments: Mapping[str, str]) -> bool:
    return (arguments.get("algo") or "").lower() == "dora"


Ranks = list[tuple[Target, int, float | None]]
"""Layers with their dims and alphas."""


def chosen_layers(parts: Parts, config: NetworkConfig) -> list[tuple[NetworkConfig, Ranks]]:
    """(settings, layers) for every group of layers that the preset trains alike; text encoders first in each.

    Raises `AtelierError` for a preset that cannot be used.
    """
    preset = preset_of(config)
    found = {UNET: preset.layers(UNET, parts.denoiser)} if config.unet else {}
    if config.text_encoders:
        found.update({part: preset.layers(part, each) for part, each in zip(TEXT_PARTS, parts.text_encoders)})
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


def kind_layers(parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
    """The layers of a network of the configured kind; LoRA and LoCon without extras are our own.

    Raises `AtelierError` for an unknown kind or preset, or when LyCORIS is needed and not installed.
    """
    if flag(config.arguments, "train_norm"):
        raise AtelierError("network_args: train_norm is not supported; take it out to train without norms.")
    algorithm(config)
    layers: list[tuple[Target, Any]] = []
    for alike, chosen in chosen_layers(parts, config):
        layers += _layers_of(chosen, alike, seed)
    return layers


def _layers_of(chosen: Ranks, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
    kind, arguments = algorithm(config), config.arguments
    extras = any(flag(arguments, key) for key in ("use_tucker", "use_cp", "use_conv_cp", "use_scalar"))
    if kind in ("lora", "locon") and not extras and not decomposed(arguments):
        from atelier.adapters.network import lora_layers

        stable = flag(arguments, "rs_lora")
        ranks = [(target, (dim, (alpha or dim) * math.sqrt(dim) if stable else alpha)) for target, dim, alpha in chosen]
        return lora_layers(ranks, config, seed)
    from atelier.adapters.kinds.lycoris import lycoris_layers

    return lycoris_layers(chosen, kind, config, seed)
