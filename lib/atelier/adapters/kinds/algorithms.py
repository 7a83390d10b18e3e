"""LyCORIS' kinds of adapter by name, and what network_args say of them.

network_module "lycoris.kohya" takes its kind from network_args: algo=lora, locon, loha, lokr, ia3, diag-oft, boft,
with dora_wd=True for DoRA.
"""

from __future__ import annotations

from collections.abc import Mapping

from atelier.adapters.config import NetworkConfig
from atelier.adapters.layers.presets import preset_of
from atelier.config.errors import AtelierError

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


def lycoris_name(config: NetworkConfig) -> str:
    """What a file of LyCORIS' making will be, as `LoRAFile.kind` says it: "lora", "locon", "dora", "loha" …

    Raises `AtelierError` for a kind that cannot be trained here.
    """
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
