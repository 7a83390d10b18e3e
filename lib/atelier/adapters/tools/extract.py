"""Extracts a LoRA from two models: the difference between a tuned model and its base, in low rank."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.adapters.layers.targets import find_targets
from atelier.adapters.tools.low_rank import of_matrix
from atelier.config.errors import AtelierError
from atelier.models.family import Parts

SMALLEST = 1e-6
"""Layers whose largest difference is below this count as equal."""


@torch.no_grad()
def extract_lora(
    tuned: Parts,
    base: Parts,
    rank: int,
    conv_rank: int | None = None,
    energy: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """The LoRA, with kohya's names, that turns `base` into `tuned` as closely as `rank` per layer allows.

    `conv_rank` also includes 3x3 convolutions and the residual blocks. `energy` (0 to 1) uses as few ranks as keep that
    share of a layer's squared difference. Equal layers are left out. Raises `AtelierError` when the models are equal or
    of different families.
    """
    if tuned.family.name != base.family.name:
        raise AtelierError(f"The models are of different families: {tuned.family.name} and {base.family.name}.")
    targets = find_targets(tuned, convolutions=conv_rank is not None)
    others = {target.name: target for target in find_targets(base, convolutions=conv_rank is not None)}
    tensors: dict[str, Tensor] = {}
    for target in targets:
        new, old = target.module.weight, others[target.name].module.weight if target.name in others else None
        if old is None or new.shape != old.shape:
            raise AtelierError(f"{target.name} has another shape in the base. The models do not belong together.")
        difference = new.float() - old.to(new.device).float()
        if float(difference.abs().max()) < SMALLEST:
            continue
        most = conv_rank if target.is_spatial and conv_rank else rank
        small = of_matrix(difference.flatten(1), most, energy)
        down = small.down.reshape(small.rank, *new.shape[1:])
        up = small.up.reshape(new.shape[0], small.rank, *[1] * (new.ndim - 2))
        tensors[f"{target.name}.lora_down.weight"] = down.to("cpu", dtype)
        tensors[f"{target.name}.lora_up.weight"] = up.to("cpu", dtype)
        tensors[f"{target.name}.alpha"] = torch.tensor(float(small.rank), dtype=dtype)
    if not tensors:
        raise AtelierError("The two models are equal in every layer that a LoRA can change.")
    return tensors
