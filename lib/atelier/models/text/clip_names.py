"""The two spellings of the parameter names of CLIP text encoders.

transformers up to version 4 nests all of `CLIPTextModel` in `text_model.`; transformers 5 does so only in
`CLIPTextModelWithProjection`. Files, kohya's LoRA names and this package always have `text_model.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import nn

T = TypeVar("T")
PREFIX = "text_model."
_ROOTS = ("embeddings.", "encoder.", "final_layer_norm.")


def canonical(name: str) -> str:
    """A text encoder's parameter or module path with `text_model.` in front; "text_projection" has none."""
    return PREFIX + name if (name + ".").startswith(_ROOTS) else name


def names_of_module(module: nn.Module, tensors: Mapping[str, T]) -> dict[str, T]:
    """The same tensors under the names that `module` itself uses; unchanged if it is no text encoder."""
    if hasattr(module, "text_model"):
        return {canonical(name): tensor for name, tensor in tensors.items()}
    if hasattr(module, "final_layer_norm") and hasattr(module, "embeddings"):
        return {canonical(name).removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def body(module: nn.Module) -> nn.Module:
    """The submodule with `embeddings`, `encoder` and `final_layer_norm`."""
    return getattr(module, "text_model", module)
