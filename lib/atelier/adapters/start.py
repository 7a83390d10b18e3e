"""A network at the beginning of a run: fresh, or from a file; and the LoRAs that the base wears meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from atelier.adapters.applied.apply import AppliedLora, prepare_lora
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora
from atelier.adapters.network import Network, build
from atelier.adapters.tools.exchange import to_kohya
from atelier.config.errors import AtelierError
from atelier.config.files.paths import expanded
from atelier.models.family import Parts


def start_network(
    parts: Parts, config: NetworkConfig, seed: int, weights: str | Path | None = None, dim_from_weights: bool = False
) -> Network:
    """A new network, with kohya's network_weights in it when a file is given.

    The file may have any layout. Layers that it lacks start fresh; `dim_from_weights` takes ranks and alphas from
    it and adapts only the layers it has. Raises `AtelierError` when the file is missing, does not fit the model,
    or has another rank.
    """
    if weights is None or not str(weights).strip():
        return build(parts, config, seed)
    file = read_lora(expanded(weights))
    tensors = to_kohya(parts, file).tensors
    if dim_from_weights:
        config = config.with_dims(dims_of(tensors))
    network = build(parts, config, seed)
    report = network.load_tensors(tensors)
    if len(report.missing) == sum(len(layer.tensors()) for layer in network.layers.values()):
        raise AtelierError(f"{file.name} (network_weights) has none of the layers that are trained here.")
    return network


def dims_of(tensors: dict[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each layer of a LoRA in kohya's names. Raises `AtelierError` when it has no ranks."""
    dims: dict[str, tuple[int, float]] = {}
    for key, tensor in tensors.items():
        layer, _, suffix = key.partition(".")
        if suffix in ("lora_down.weight", "hada_w1_b"):
            rank = int(tensor.shape[0])
            dims[layer] = (rank, float(tensors[f"{layer}.alpha"]) if f"{layer}.alpha" in tensors else float(rank))
    if not dims:
        raise AtelierError("dim_from_weights needs a LoRA or LoHa as network_weights; this file has no ranks.")
    return dims


def base_weights(parts: Parts, paths: Sequence[str | Path], multipliers: Sequence[float] = ()) -> list[AppliedLora]:
    """kohya's base_weights: LoRA files that the base wears while another is trained, ready to attach.

    Multipliers that are not given are 1. Attach them before the trained network: `with lora.network.attached():`.
    Raises `AtelierError` when a file is missing or does not fit.
    """
    ready = []
    for index, path in enumerate(paths):
        lora = prepare_lora(parts, read_lora(expanded(path)))
        lora.network.multiplier = multipliers[index] if index < len(multipliers) else 1.0
        ready.append(lora)
    return ready
