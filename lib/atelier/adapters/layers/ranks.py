"""The rank and alpha of each layer of a plain LoRA."""

from __future__ import annotations

from typing import Any

from atelier.adapters.config import NetworkConfig
from atelier.adapters.layers.blocks import block_counts, block_of, block_rates, numbers
from atelier.adapters.layers.targets import UNET, Target


class Ranks:
    """Ranks and alphas of a configuration, per block where network_args have lists for blocks.

    Raises `AtelierError` when lists for blocks have the wrong length.
    """

    def __init__(self, config: NetworkConfig, family: str) -> None:
        self._config = config
        arguments, count = config.arguments, block_counts(family).total
        dims = numbers(arguments, "block_dims", count)
        rates = block_rates(arguments, family)
        conv_dims = numbers(arguments, "conv_block_dims", count)
        self._by_block = dims is not None or rates is not None
        self._dims = dims or [config.dim] * count
        self._alphas: list[Any] = numbers(arguments, "block_alphas", count) or [config.alpha] * count
        self._conv_dims = conv_dims or [config.conv_dim or 0] * count
        conv_alphas = numbers(arguments, "conv_block_alphas", count)
        self._conv_alphas: list[Any] = conv_alphas or [config.conv_alpha] * count
        self._silent = {index for index, rate in enumerate(rates or []) if rate == 0}
        self.convolutions = bool(config.conv_dim) or (self._by_block and conv_dims is not None)

    def of(self, target: Target) -> tuple[int, float | None] | None:
        """(dim, alpha) for one layer, or None when it gets no adapter.

        3x3 convolutions use conv_dim. The residual blocks' 1x1 shortcuts and time embeddings use the main rank, and
        are adapted only with a conv_dim. A block with the learning rate 0 gets no adapter.
        """
        config = self._config
        if config.dims is not None:
            return config.dims.get(target.name)
        if not self.convolutions and (target.is_spatial or not target.plain):
            return None
        if target.part == UNET and self._by_block:
            block = block_of(target.name)
            if block is None or block in self._silent:
                return None
            if target.is_spatial:
                dim, alpha = self._conv_dims[block], self._conv_alphas[block]
            else:
                dim, alpha = self._dims[block], self._alphas[block]
            return (int(dim), alpha) if dim else None
        if target.is_spatial:
            return (config.conv_dim, config.conv_alpha) if config.conv_dim else None
        return config.dim, config.alpha
