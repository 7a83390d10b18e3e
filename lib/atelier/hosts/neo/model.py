"""What Forge Neo says of its model, and what its weights say: in a mixed file most can be plain and some not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from atelier.hosts.shared.forge_objects import engine
from atelier.hosts.shared.forge_objects.facts import Facts
from atelier.hosts.shared.lease import PLAIN

VERSIONS = "1 or XL"
"""Of Stable Diffusion, that Forge Neo loads."""
_seen: WeakKeyDictionary[nn.Module, object] = WeakKeyDictionary()
"""The storage of models that were looked through: it is asked on every turn, and weights stay of their kind."""


def facts_of(model: Any) -> Facts:
    """What the trainer has to know of a loaded engine."""
    from modules import sd_models

    chosen = getattr(sd_models.model_data, "forge_loading_parameters", None) or {}
    return replace(
        engine.facts_of(model),
        storage=storage_of(model.forge_objects.unet.model),
        low_bits_in_file=chosen.get("unet_storage_dtype") is None,
        versions=VERSIONS,
    )


def storage_of(kept: Any) -> object:
    """What the UNet is kept in, a torch.dtype or a word for low bits: decided by the first weight that is not plain."""
    unet = kept.diffusion_model
    if unet not in _seen:
        _seen[unet] = next((found for found in map(_unusual, unet.parameters()) if found is not None), None)
    return kept.storage_dtype if _seen[unet] is None else _seen[unet]


def _unusual(weight: Any) -> object:
    """The storage of a weight that cannot be lent, None for one that can."""
    if getattr(weight, "gguf_cls", None) is not None:
        return "gguf"
    if hasattr(weight, "bnb_quantized"):
        return str(getattr(weight, "quant_type", "nf4"))
    layout = getattr(weight, "_layout_cls", None)
    if layout is not None or type(weight).__name__ == "QuantizedTensor":
        return str(layout or "mixed precision")
    return None if weight.dtype in PLAIN else weight.dtype
