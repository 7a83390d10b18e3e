"""The network at the start of a run: new, or from a LoRA file. And the LoRAs that are applied to the base meanwhile."""

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
from atelier.config.settings.schema import labelled
from atelier.models.family import Parts


def start_network(
    parts: Parts, config: NetworkConfig, seed: int, weights: str | Path | None = None, dim_from_weights: bool = False
) -> Network:
    """A new network, with the weights of kohya's network_weights when a file is given.

    The file may have any layout. Layers that it lacks start from new. `dim_from_weights` uses the file's ranks and
    alphas and adapts only the file's layers. Raises `AtelierError` when the file is missing or damaged, has NaN, does
    not fit the model, or has another rank.
    """
    if weights is None or not str(weights).strip():
        return build(parts, config, seed)
    file = read_lora(expanded(weights))
    file.check_finite(labelled("network_weights"))
    tensors = to_kohya(parts, file).tensors
    if dim_from_weights:
        config = config.with_dims(dims_of(tensors))
    network = build(parts, config, seed)
    report = network.load_tensors(tensors)
    if len(report.missing) == sum(len(layer.tensors()) for layer in network.layers.values()):
        raise AtelierError(f"{labelled('network_weights')}: {file.name} has none of the layers that this run trains.")
    return network


def dims_of(tensors: dict[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each layer of a LoRA with kohya's names. Raises `AtelierError` when it has no ranks."""
    dims: dict[str, tuple[int, float]] = {}
    for key, tensor in tensors.items():
        layer, _, suffix = key.partition(".")
        if suffix in ("lora_down.weight", "hada_w1_b"):
            rank = int(tensor.shape[0])
            dims[layer] = (rank, float(tensors[f"{layer}.alpha"]) if f"{layer}.alpha" in tensors else float(rank))
    if not dims:
        raise AtelierError(
            f"{labelled('dim_from_weights')} needs a LoRA or LoHa in {labelled('network_weights')}; this file has no "
            "ranks."
        )
    return dims


def base_weights(parts: Parts, paths: Sequence[str | Path], multipliers: Sequence[float] = ()) -> list[AppliedLora]:
    """kohya's base_weights: LoRA files that are applied to the base while another LoRA is trained, ready to attach.

    Missing multipliers are 1. Attach them before the trained network: `with lora.network.attached():`. Raises
    `AtelierError` when a file is missing or damaged, has NaN, or does not fit.
    """
    ready = []
    for index, path in enumerate(paths):
        file = read_lora(expanded(path))
        file.check_finite(labelled("base_weights"))
        lora = prepare_lora(parts, file)
        lora.network.multiplier = multipliers[index] if index < len(multipliers) else 1.0
        ready.append(lora)
    return ready
