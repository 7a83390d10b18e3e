"""The names of LyCORIS' kinds of adapter, and how network_args choose them.

With network_module "lycoris.kohya", network_args choose the kind: algo=lora, locon, loha, lokr, ia3, diag-oft or boft,
and dora_wd=True for DoRA.
"""

from __future__ import annotations

from collections.abc import Mapping

from atelier.adapters.config import NetworkConfig
from atelier.adapters.layers.presets import preset_of
from atelier.config.errors import AtelierError
from atelier.config.kohya.network_args import NETWORK_ARGS
from atelier.config.settings.schema import labelled

LYCORIS = ("lycoris.kohya", "lycoris.locon_kohya", "locon.locon_kohya")
ALGORITHMS = ("lora", "locon", "loha", "lokr", "ia3", "diag-oft", "boft")
_SYNONYMS = {"oft": "diag-oft", "diag_oft": "diag-oft", "dora": "locon"}
FROM_INPUT = ("ff.net.2", "mlp.fc2")
"""Layers of which the preset ia3 scales the inputs instead of the outputs."""


def algorithm(config: NetworkConfig) -> str:
    """The kind of adapter in LyCORIS' names. Raises `AtelierError` for a kind that cannot be trained."""
    if config.module not in LYCORIS:
        raise AtelierError(
            f"{labelled('network_module')} {config.module!r} cannot be trained. Use networks.lora, or lycoris.kohya "
            f"with algo=NAME in {NETWORK_ARGS} ({', '.join(ALGORITHMS)})."
        )
    name = (config.arguments.get("algo") or "lora").lower()
    name = _SYNONYMS.get(name, name)
    if name not in ALGORITHMS:
        raise AtelierError(f"{NETWORK_ARGS}: algo={name} cannot be trained. Use one of {', '.join(ALGORITHMS)}.")
    return name


def lycoris_name(config: NetworkConfig) -> str:
    """The kind of the files that LyCORIS makes, as in `LoRAFile.kind`: "lora", "locon", "dora", "loha" …

    Raises `AtelierError` for a kind that cannot be trained.
    """
    kind = algorithm(config)
    if kind in ("lora", "locon"):
        if decomposed(config.arguments):
            return "dora"
        return "locon" if preset_of(config).convolutions and config.conv_dim != 0 else "lora"
    return "oft" if kind == "diag-oft" else kind


def flag(arguments: Mapping[str, str], key: str) -> bool:
    """A true or false value of network_args; False when it is missing."""
    return str(arguments.get(key, "")).lower() in ("true", "1", "yes", "on")


def decomposed(arguments: Mapping[str, str]) -> bool:
    """True for DoRA, which trains the magnitudes of the weights separately from their directions."""
    return flag(arguments, "dora_wd") or _says_dora(arguments)


def on_outputs(arguments: Mapping[str, str]) -> bool:
    """True when DoRA has a magnitude for each output (row), which is LyCORIS' default without wd_on_output.

    algo=dora, a name that only Atelier has, uses a magnitude for each input (column), as every WebUI expects.
    """
    if not arguments.get("wd_on_output"):
        return not _says_dora(arguments)
    return str(arguments["wd_on_output"]).lower() not in ("false", "0", "no", "off")


def _says_dora(arguments: Mapping[str, str]) -> bool:
    return (arguments.get("algo") or "").lower() == "dora"
