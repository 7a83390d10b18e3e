"""What a kind of adapter is. Each is a file in `adapters/kinds` that offers a `KIND`; nothing else lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from atelier.adapters import kinds
from atelier.adapters.config import NetworkConfig
from atelier.adapters.kinds.algorithms import ALGORITHMS
from atelier.adapters.layers.targets import Target
from atelier.config.discovery import offered
from atelier.config.errors import AtelierError
from atelier.models.family import Parts


class Kind(Protocol):
    """One kind, or several that one library computes."""

    modules: Sequence[str]
    """The values of network_module that mean it."""

    def name(self, config: NetworkConfig) -> str:
        """What a file of this network will be, as `LoRAFile.kind` says it. Raises `AtelierError` if it cannot be."""
        ...

    def layers(self, parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
        """The adapted layers, each with its adapter, not attached. `seed` alone decides the initial values.

        An adapter has the methods of `kinds.lora.LoRALayer`. Raises `AtelierError` for what cannot be trained.
        """
        ...


def kind_of(config: NetworkConfig) -> Kind:
    """The kind that network_module names. Raises `AtelierError` for one that cannot be trained here."""
    for kind in offered(kinds, "KIND"):
        if config.module in kind.modules:
            return kind
    raise AtelierError(
        f"network_module {config.module!r} cannot be trained here; use networks.lora, or lycoris.kohya with "
        f"network_args algo=NAME ({', '.join(ALGORITHMS)})."
    )


def kind_name(config: NetworkConfig) -> str:
    """What a file of this network will be: "lora", "locon", "dora", "loha" … Raises as `kind_of` does."""
    return kind_of(config).name(config)
