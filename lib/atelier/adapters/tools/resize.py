"""Resizes a LoRA to another rank, with the best approximation in each layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.files.layouts import split_key
from atelier.adapters.tools.exchange import low_rank_layers
from atelier.adapters.tools.low_rank import of_product
from atelier.config.errors import AtelierError


@dataclass(frozen=True)
class Resized:
    """A resized LoRA. `kept`: the share of the squared norm that is left, over all layers.

    `ranks` and `alphas` are by layer.
    """

    tensors: dict[str, Tensor]
    ranks: dict[str, int]
    alphas: dict[str, float]
    kept: float

    @property
    def label(self) -> str:
        """For ss_network_dim: the rank, or as in kohya's tools "Dynamic" when layers differ."""
        return _label(set(self.ranks.values()))

    @property
    def alpha_label(self) -> str:
        """The same for ss_network_alpha."""
        return _label(set(self.alphas.values()))


def resize(
    tensors: Mapping[str, Tensor],
    rank: int,
    conv_rank: int | None = None,
    energy: float | None = None,
    dtype: torch.dtype | None = None,
) -> Resized:
    """The LoRA with at most `rank` ranks per layer (`conv_rank` for 3x3 convolutions), under the names of its file.

    `energy` (0 to 1) uses as few ranks as keep that share of each layer. alpha / rank stays the same, so the file is
    used at the same weight. Layers with fewer ranks stay as they are. Raises `AtelierError` for a kind of adapter
    without ranks.
    """
    if rank < 1 or (conv_rank is not None and conv_rank < 1):
        raise AtelierError("The new rank must be at least 1.")
    if energy is not None and not 0 < energy <= 1:
        raise AtelierError("The share to keep must be above 0 and at most 1.")
    found: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    written = {split_key(key): key for key in tensors}
    before = after = 0.0
    for layer, values in low_rank_layers(tensors).items():
        down, up = values["lora_down.weight"], values["lora_up.weight"]
        old = down.shape[0]
        scale = float(values["alpha"]) / old if float(values.get("alpha", 0)) else 1.0
        spatial = down.ndim == 4 and down.shape[2:] != (1, 1)
        small = of_product(up.flatten(1), down.flatten(1), conv_rank or rank if spatial else rank, energy)
        square = float((up.flatten(1).double().t() @ up.flatten(1).double())
                       .mul(down.flatten(1).double() @ down.flatten(1).double().t()).sum()) * scale**2  # fmt: skip
        before += square
        after += square * small.kept
        new = small.rank
        kind = dtype or up.dtype
        ranks[layer], alphas[layer] = new, scale * new
        resized = {suffix: tensor.to(kind) for suffix, tensor in values.items()}
        resized["lora_down.weight"] = small.down.reshape(new, *down.shape[1:]).to(kind)
        resized["lora_up.weight"] = small.up.reshape(up.shape[0], new, *up.shape[2:]).to(kind)
        if "alpha" in values:
            resized["alpha"] = torch.tensor(scale * new, dtype=kind)
        found.update({written[layer, suffix]: tensor for suffix, tensor in resized.items()})
    return Resized(found, ranks, alphas, after / before if before > 0 else 1.0)


def _label(values: Collection[float]) -> str:
    return str(*values) if len(values) == 1 else "Dynamic"
