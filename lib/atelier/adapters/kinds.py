"""The kinds of adapter beside the plain LoRA: which there are, and their layers.

network_module "lycoris.kohya" takes its kind from network_args: algo=lora, locon, loha, lokr, ia3, diag-oft, boft,
with dora_wd=True for DoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from atelier.adapters.config import NetworkConfig
from atelier.adapters.names import all_layers
from atelier.adapters.presets import preset_of
from atelier.adapters.targets import TEXT_PARTS, UNET, Target
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


def chosen_layers(parts: Parts, config: NetworkConfig) -> list[tuple[Target, int, float | None]]:
    """(layer, dim, alpha) of every layer that the preset chooses, text encoders first."""
    preset = preset_of(config)
    conv_dim = config.dim if config.conv_dim is None else config.conv_dim
    conv_alpha = config.alpha if config.conv_alpha is None else config.conv_alpha
    within = set(preset.within(UNET, parts.unet))
    for part, encoder in zip(TEXT_PARTS, parts.text_encoders):
        within |= set(preset.within(part, encoder))
    chosen: list[tuple[Target, int, float | None]] = []
    for target in all_layers(parts):
        if not (config.unet if target.part == UNET else config.text_encoders):
            continue
        if (target.part, target.path) not in within and not preset.names(target.part, target.path):
            continue
        if config.dims is not None:
            if target.name in config.dims:
                chosen.append((target, *config.dims[target.name]))
        elif target.is_spatial:
            if preset.convolutions and conv_dim:
                chosen.append((target, conv_dim, conv_alpha))
        else:
            chosen.append((target, config.dim, config.alpha))
    return chosen


def kind_layers(parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
    """The layers of a network of the configured kind; LoRA and LoCon without extras are our own.

    Raises `AtelierError` for an unknown kind or preset, or when LyCORIS is needed and not installed.
    """
    kind = algorithm(config)
    arguments = config.arguments
    if flag(arguments, "train_norm"):
        raise AtelierError("network_args: train_norm is not supported; take it out to train without norms.")
    chosen = chosen_layers(parts, config)
    extras = any(flag(arguments, key) for key in ("use_tucker", "use_cp", "use_conv_cp", "use_scalar"))
    if kind in ("lora", "locon") and not extras and not decomposed(arguments):
        from atelier.adapters.network import lora_layers

        stable = flag(arguments, "rs_lora")
        ranks = [
            (target, (dim, (alpha or dim) * math.sqrt(dim) if stable else alpha)) for target, dim, alpha in chosen
        ]
        return lora_layers(ranks, config, seed)
    from atelier.adapters.lycoris_network import lycoris_layers

    return lycoris_layers(chosen, kind, config, seed)
