"""The rank and alpha of each layer."""

from __future__ import annotations

from atelier.adapters.config import NetworkConfig
from atelier.adapters.targets import Target


def rank_of(target: Target, config: NetworkConfig) -> tuple[int, float | None] | None:
    """(dim, alpha) for one layer, or None when it gets no adapter.

    3x3 convolutions use conv_dim; the residual blocks' 1x1 shortcuts and time embeddings use the main rank, and
    are adapted only when there is a conv_dim.
    """
    if config.dims is not None:
        return config.dims.get(target.name)
    if target.is_spatial:
        return (config.conv_dim, config.conv_alpha) if config.conv_dim else None
    if not target.in_transformer and not config.conv_dim:
        return None
    return config.dim, config.alpha
