"""The tensors of A1111's model: the names that a checkpoint file has for them, and views over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from atelier.hosts.a1111.model import current, family_of, prediction_type, text_module
from atelier.hosts.shared.ldm_unet import unet_overrides

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed
    from atelier.models.views.from_ldm import Weights

PREFIXES = {
    "cond_stage_model.wrapped.transformer.": "cond_stage_model.transformer.",
    "cond_stage_model.wrapped.model.": "cond_stage_model.model.",
    "conditioner.embedders.0.wrapped.transformer.": "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.wrapped.model.": "conditioner.embedders.1.model.",
}
"""Prefixes that the WebUI's wrappers add to the names of its text encoders' tensors -> the names without them."""


def named_tensors(model: Any) -> list[tuple[str, Tensor]]:
    """Every parameter of the model under its LDM name, without those that only point at another."""
    roots: list[tuple[str, nn.Module]] = [
        ("model.diffusion_model.", model.model.diffusion_model),
        ("first_stage_model.", model.first_stage_model),
        ("conditioner." if hasattr(model, "conditioner") else "cond_stage_model.", text_module(model)),
    ]
    return [(prefix + name, parameter) for prefix, root in roots for name, parameter in root.named_parameters()]


def renamed(name: str) -> str:
    """The name that a checkpoint file has for a tensor of the WebUI's model."""
    for wrapped, plain in PREFIXES.items():
        if name.startswith(wrapped):
            name = plain + name[len(wrapped) :]
    return name.replace("token_embedding.wrapped.", "token_embedding.")


def borrow(parts: frozenset[str]) -> Borrowed:
    """Views over the loaded model's "unet", "text_encoder", "vae". Called inside the queue."""
    # Here and not above: diffusers takes seconds to import, which the WebUI's start must not wait for.
    from atelier.hosts.shared.borrowed import Borrowed
    from atelier.models.assets import load_tokenizers
    from atelier.models.registry import family_named
    from atelier.models.views.from_ldm import weights_from_ldm

    model = current()
    family = family_named(str(family_of(model)))

    def tensors() -> list[Tensor]:
        return [tensor for _, tensor in named_tensors(current())]

    def read() -> Weights:
        found = {renamed(name): tensor for name, tensor in named_tensors(current())}
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        return weights_from_ldm(family, shapes, found.__getitem__, parts, unet_overrides(model.model.diffusion_model))

    return Borrowed(
        family,
        read,
        tensors,
        load_tokenizers(family.name),
        prediction_type(model),
        bool(getattr(model, "ztsnr", False)),
    )
