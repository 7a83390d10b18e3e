"""The network that a run trains, with its starting values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atelier.adapters.config import NetworkConfig
from atelier.adapters.network import Network, build
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from atelier.training.context import RunContext
from atelier.training.randomness import derived_seed


def new_network(context: RunContext, parts: Parts) -> Network:
    """The network of the run's settings over these parts, at its starting values.

    Raises `AtelierError` when nothing is left to train, or when the file to start from does not fit.
    """
    settings = context.job.settings
    config = replace(NetworkConfig.from_settings(settings), unet=context.trains_unet, text_encoders=context.trains_text)
    if not (config.unet or config.text_encoders):
        raise AtelierError("Nothing is left to train: give the UNet or the text encoder a learning rate above 0.")
    tensors = None
    if settings.network_weights:
        from atelier.adapters.kohya_file import read_lora

        path = Path(settings.network_weights).expanduser()
        if not path.is_file():
            raise AtelierError(f"The file to go on from, {path}, does not exist; see network_weights.")
        tensors = read_lora(path).tensors
        if settings.dim_from_weights:
            config = config.with_dims(dims_of(tensors))
    network = build(parts, config, derived_seed(context.seed, "network"))
    if tensors is not None:
        network.load_tensors(tensors)
    return network


def dims_of(tensors: dict) -> dict[str, tuple[int, float]]:  # type: ignore[type-arg]
    """Rank and alpha of each layer of a kohya file."""
    dims = {}
    for key, tensor in tensors.items():
        name, _, kind = key.partition(".")
        if kind == "lora_down.weight":
            alpha = tensors.get(f"{name}.alpha")
            rank = int(tensor.shape[0])
            dims[name] = (rank, float(alpha) if alpha is not None else float(rank))
    return dims
