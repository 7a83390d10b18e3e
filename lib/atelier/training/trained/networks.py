"""Builds the network that a run trains, and applies LoRAs to the base meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from atelier.adapters.config import NetworkConfig
from atelier.adapters.network import Network
from atelier.adapters.start import base_weights, start_network
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from atelier.training.context import RunContext
from atelier.training.randomness import derived_seed
from atelier.training.trained.whole_model import WholeModel


def new_network(context: RunContext, parts: Parts) -> Network:
    """The network of the run's settings on these parts, with its initial values.

    Raises `AtelierError` when there is nothing to train, or when the file to start from does not fit.
    """
    settings = context.job.settings
    config = replace(
        NetworkConfig.from_settings(settings), unet=context.trains_denoiser, text_encoders=context.trains_text
    )
    if not (config.unet or config.text_encoders):
        raise AtelierError("There is nothing to train. Give the UNet or the text encoder a learning rate above 0.")
    seed = derived_seed(context.seed, "network")
    return start_network(parts, config, seed, settings.network_weights, settings.dim_from_weights)


def build_trainable(context: RunContext, parts: Parts) -> Network | WholeModel:
    """The trainable of the run: an adapter network, or the whole model."""
    if context.whole_model:
        settings = context.job.settings
        return WholeModel(parts, context.trains_text, settings.freeze_blocks, settings.block_lr)
    return new_network(context, parts)


@contextmanager
def at_strength(network: Network | WholeModel, strength: float) -> Iterator[None]:
    """Sets an adapter network's strength inside the block; afterwards it is 1. A whole model has no strength."""
    if strength == 1.0 or isinstance(network, WholeModel):
        yield
        return
    network.multiplier = strength
    try:
        yield
    finally:
        network.multiplier = 1.0


def attach_base_loras(context: RunContext, parts: Parts, stack: ExitStack) -> None:
    """kohya's base_weights: applies these LoRAs to the base, untrained, until `stack` ends. The base is not changed."""
    settings = context.job.settings
    for lora in base_weights(parts, settings.base_weights, settings.base_weights_multiplier):
        warning = lora.report()
        if warning:
            context.record.message(warning, "warning")
        lora.network.to(parts.device)
        stack.enter_context(lora.network.attached())
