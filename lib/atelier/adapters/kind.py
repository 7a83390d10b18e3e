"""What a kind of adapter must offer. Each is a file in `adapters/kinds` with a `KIND`; no list names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from atelier.adapters import kinds
from atelier.adapters.config import NetworkConfig
from atelier.adapters.kinds.algorithms import ALGORITHMS
from atelier.adapters.layers.targets import Target
from atelier.config.discovery import offered
from atelier.config.errors import AtelierError
from atelier.config.kohya.network_args import NETWORK_ARGS
from atelier.config.settings.schema import labelled
from atelier.models.family import Parts


class Kind(Protocol):
    """One kind of adapter, or several that one library computes."""

    modules: Sequence[str]
    """Values of network_module for this kind."""

    def name(self, config: NetworkConfig) -> str:
        """The kind of the files of this network, as in `LoRAFile.kind`. Raises `AtelierError` when there is none."""
        ...

    def layers(self, parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
        """The adapted layers, each with its adapter, not attached. `seed` alone decides the initial values.

        An adapter has the methods of `kinds.lora.LoRALayer`. Raises `AtelierError` when it cannot be trained.
        """
        ...


def kind_of(config: NetworkConfig) -> Kind:
    """The kind that network_module names. Raises `AtelierError` for a kind that cannot be trained."""
    for kind in offered(kinds, "KIND"):
        if config.module in kind.modules:
            return kind
    raise AtelierError(
        f"{labelled('network_module')} {config.module!r} cannot be trained. Use networks.lora, or lycoris.kohya with "
        f"algo=NAME in {NETWORK_ARGS} ({', '.join(ALGORITHMS)})."
    )


def kind_name(config: NetworkConfig) -> str:
    """The kind of the files of this network: "lora", "locon", "dora", "loha" … Raises as `kind_of` does."""
    return kind_of(config).name(config)
