"""The configuration of a network of adapters, read from the training settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from atelier.config.errors import AtelierError, shortened
from atelier.config.kohya.network_args import NETWORK_ARGS
from atelier.config.settings.checks import BELOW_ONE, DROPOUTS
from atelier.config.settings.schema import labelled

DEFAULT_DIM = 4
"""kohya's rank when network_dim is not set."""


@dataclass(frozen=True)
class NetworkConfig:
    """Rank, strength and dropouts of the adapters, and the layers that get them.

    `alpha` 0 or None means dim. Without `conv_dim` only the transformer blocks are adapted; LyCORIS' kinds then use dim
    for the convolutions too, and 0 leaves convolutions out. `dims` has ranks and alphas of single layers by kohya's
    name; with it only these layers are adapted. `arguments` are the remaining network_args, as text.
    """

    dim: int = DEFAULT_DIM
    alpha: float | None = None
    conv_dim: int | None = None
    conv_alpha: float | None = None
    dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    unet: bool = True
    text_encoders: bool = True
    module: str = "networks.lora"
    """kohya's network_module."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    dims: Mapping[str, tuple[int, float]] | None = None

    @classmethod
    def from_settings(cls, settings: Any) -> NetworkConfig:
        """Reads the settings under kohya's names. As in kohya's scripts, conv_alpha is 1 for a plain LoRA if not set.

        Raises `AtelierError` for a network_args entry that cannot be read, and for a dropout that leaves nothing.
        """
        arguments = parse_network_args(getattr(settings, "network_args", None) or [])

        def number(key: str, kind: Any = float) -> Any:
            value = arguments.pop(key, None)
            return _number(key, value, kind) if value is not None else getattr(settings, key, None)

        if not 0 <= (settings.network_dropout or 0.0) < 1:
            raise AtelierError(f"{labelled('network_dropout')} is {settings.network_dropout}; {BELOW_ONE}.")
        dropout, ranks, modules = (_share(key, number(key)) for key in DROPOUTS)
        module = settings.network_module or "networks.lora"
        conv_alpha = number("conv_alpha")
        if conv_alpha is None and module == "networks.lora":
            conv_alpha = 1.0
        return cls(
            dim=settings.network_dim or DEFAULT_DIM,
            alpha=settings.network_alpha,
            conv_dim=number("conv_dim", int),
            conv_alpha=conv_alpha,
            dropout=settings.network_dropout or dropout,
            rank_dropout=ranks,
            module_dropout=modules,
            unet=not settings.network_train_text_encoder_only,
            text_encoders=not settings.network_train_unet_only,
            module=module,
            arguments=arguments,
        )

    def with_dims(self, dims: Mapping[str, tuple[int, float]]) -> NetworkConfig:
        """A copy with the ranks of a file (dim_from_weights)."""
        return replace(self, dims=dict(dims))

    def overridden(self, override: Mapping[str, str]) -> NetworkConfig:
        """A copy with a preset's own dim, alpha or network_args for some layers.

        Raises `AtelierError` for a dim or alpha that is not a number.
        """
        arguments = {**self.arguments, **override}
        dim, alpha = arguments.pop("dim", None), arguments.pop("alpha", None)
        if not override:
            return self
        changed = replace(self, arguments=arguments)
        if dim is not None:
            rank = _number("dim", dim, int) or self.dim
            changed = replace(changed, dim=rank, conv_dim=rank)
        if alpha is not None:
            changed = replace(changed, alpha=_number("alpha", alpha, float), conv_alpha=_number("alpha", alpha, float))
        return changed


def _share(key: str, value: float | None) -> float:
    if value is not None and not 0 <= value < 1:
        raise AtelierError(f"{NETWORK_ARGS}: {key} is {value:g}; {BELOW_ONE}.")
    return value or 0.0


def parse_network_args(pairs: Sequence[str]) -> dict[str, str]:
    """["conv_dim=4", "algo=loha"] -> a mapping. Raises `AtelierError` for an entry without "="."""
    arguments: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = str(pair).partition("=")
        if not equals or not key.strip():
            raise AtelierError(f"{NETWORK_ARGS}: {pair!r} must be key=value, such as conv_dim=4.")
        arguments[key.strip()] = value.strip()
    return arguments


def _number(key: str, value: str, kind: Any) -> Any:
    if value.lower() in ("", "none"):
        return None
    try:
        return kind(value) if kind is float else int(float(value))
    except (ValueError, OverflowError) as error:
        raise AtelierError(f"{NETWORK_ARGS}: {key} is {shortened(value)!r}; it must be a number.") from error
