"""Which WebUIs can use which kinds of adapter, found by reading and running the WebUIs' own code.

Each WebUI's merging code was run with a layer of every kind and compared with LyCORIS' own output. Kinds that are not
listed here agree. Plain LoRA, LoCon, LoHa and LoKr agree everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atelier.adapters.config import NetworkConfig
from atelier.adapters.kind import kind_name
from atelier.adapters.kinds.algorithms import decomposed, flag, on_outputs
from atelier.adapters.layers.presets import preset_of
from atelier.config.kohya.network_args import NETWORK_ARGS
from atelier.config.settings.schema import Settings

WEBUIS = {
    "a1111": "AUTOMATIC1111", "forge": "Forge", "neo": "Forge Neo", "reforge": "reForge", "sdnext": "SD.Next",
}  # fmt: skip
"""Titles of the WebUIs by the names of their hosts."""
TITLES = {
    "lora": "LoRA", "locon": "LoCon", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "ia3": "(IA)³", "oft": "OFT",
    "boft": "BOFT",
}  # fmt: skip
NOTHING, OTHERWISE = "do not load", "do not reproduce"


@dataclass(frozen=True)
class Trouble:
    """A kind of file that some WebUIs cannot use. `cure`: what to change, "" when nothing helps."""

    hosts: tuple[str, ...]
    verb: str
    what: str
    cure: str = ""

    def said_of(self, names: str, one: bool) -> str:
        """The beginning of a sentence: what the WebUIs of these `names` do with the file. `one`: it is one WebUI."""
        verb = self.verb.replace("do not", "does not") if one else self.verb
        return f"{names} {verb} {self.what}"


def troubles(config: NetworkConfig) -> list[Trouble]:
    """The WebUIs that cannot use a file of this network, and why; [] for a kind that every WebUI can use.

    Raises `AtelierError` for a kind that cannot be trained.
    """
    mixed = [] if config.module in ("", "networks.lora") else preset_of(config).overrides
    found = _troubles(config)
    for override in mixed:
        found += [trouble for trouble in _troubles(config.overridden(override)) if trouble not in found]
    return found


def _troubles(config: NetworkConfig) -> list[Trouble]:
    """Like `troubles`, for layers that are all of one kind."""
    kind = kind_name(config)
    arguments = config.arguments
    title = TITLES.get(kind, kind)
    found: list[Trouble] = []
    if kind == "ia3":
        found.append(Trouble(("forge", "neo", "reforge"), NOTHING, f"{title} files"))
        if (arguments.get("preset") or "full") not in ("ia3", "attn-only") and not flag(arguments, "train_on_input"):
            cure = f"preset=ia3 in {NETWORK_ARGS}, which leaves them out"
            found.append(Trouble(("a1111", "sdnext"), NOTHING, f"{title} on convolutions", cure))
    elif kind in ("oft", "boft"):
        found.append(Trouble(("forge",), NOTHING, f"{title} files"))
        constrained = _number(arguments.get("constraint") or arguments.get("constrain"))
        if kind == "boft":
            found.append(Trouble(("sdnext",), NOTHING, f"{title} files"))
        elif not constrained:
            found.append(
                Trouble(("sdnext",), NOTHING, f"{title} without a constraint", f"constraint=0.01 in {NETWORK_ARGS}")
            )
        if constrained:
            what, cure = f"{title} with a constraint", "to leave out constraint"
            found.append(Trouble(("neo", "reforge"), OTHERWISE, what, cure))
        if kind == "oft" and flag(arguments, "rescaled"):
            what, cure = f"{title} with rescaled=True", "to leave it out"
            found.append(Trouble(("neo", "reforge", "sdnext"), OTHERWISE, what, cure))
    if decomposed(arguments) and kind in ("dora", "loha", "lokr") and on_outputs(arguments):
        what, cure = "DoRA on outputs", f"wd_on_output=False in {NETWORK_ARGS}, which every WebUI applies exactly"
        found.append(Trouble(("a1111", "forge", "neo", "reforge"), OTHERWISE, what, cure))
    tucker = any(flag(arguments, key) for key in ("use_tucker", "use_cp", "use_conv_cp"))
    if kind == "lokr" and tucker and preset_of(config).convolutions and config.conv_dim != 0:
        what, cure = "LoKr convolutions with use_tucker", "to leave out use_tucker"
        found.append(Trouble(("forge", "neo", "reforge"), NOTHING, what, cure))
    return found


def kind_text(settings: Settings, host: str) -> str:
    """`usable_text` for the settings of a run, and "" for a whole model. Raises as `usable_text` does."""
    return "" if settings.train_whole_model else usable_text(NetworkConfig.from_settings(settings), host)


def kind_remark(settings: Settings, host: str) -> str | None:
    """`here` for the settings of a run, and None for a whole model. Raises as `here` does."""
    return None if settings.train_whole_model else here(NetworkConfig.from_settings(settings), host)


def usable_text(config: NetworkConfig, host: str) -> str:
    """Sentences about the WebUIs that can use a file of this network, this WebUI first; "" for a plain LoRA.

    `host` is the name of this host. If it is no WebUI ("embedded"), there is no sentence about it. Raises
    `AtelierError` for a kind that cannot be trained.
    """
    kind = kind_name(config)
    found = troubles(config)
    if not found:
        return "" if kind in ("lora", "locon") else f"{TITLES.get(kind, kind)}: {_names(list(WEBUIS))} load it."
    said_here = here(config, host)
    sentences = [said_here] if said_here else []
    for trouble in found:
        others = [name for name in trouble.hosts if name != host]
        if others:
            cure = f" ({trouble.cure})" if trouble.cure and host not in trouble.hosts else ""
            sentences.append(f"{trouble.said_of(_names(others), len(others) == 1)}{cure}.")
    usable = [name for name in WEBUIS if not any(name in trouble.hosts for trouble in found)]
    if usable:
        sentences.append(f"{_names(usable)} {'loads' if len(usable) == 1 else 'load'} it.")
    return " ".join(sentences)


def here(config: NetworkConfig, host: str) -> str | None:
    """Why this WebUI cannot use a file of this network, as sentences; None when it can.

    Raises `AtelierError` for a kind that cannot be trained.
    """
    sentences = []
    for trouble in troubles(config):
        if host in trouble.hosts:
            effect = "it would be without effect here" if trouble.verb == NOTHING else "pictures would differ here"
            cure = f" What helps: {trouble.cure}." if trouble.cure else ""
            sentences.append(f"{trouble.said_of(f'This WebUI ({WEBUIS[host]})', True)}; {effect}.{cure}")
    return " ".join(sentences) or None


def _names(hosts: Sequence[str]) -> str:
    names = [WEBUIS[host] for host in hosts]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
