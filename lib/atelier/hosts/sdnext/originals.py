"""The weights as they were before any LoRA: in the views of a lease, else in the checkpoint."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from atelier.config.errors import AtelierError
from atelier.hosts.contract import ModelInfo
from atelier.hosts.sdnext.loras import Exact, FromFile, layers_with_loras
from atelier.hosts.sdnext.model import model_info
from atelier.hosts.sdnext.refusals import components
from atelier.hosts.sdnext.weights import named_tensors
from atelier.hosts.shared.borrowed import Borrowed, modules_of
from atelier.models.checkpoints.load import weights_from_path
from atelier.models.registry import family_named
from atelier.models.text.clip_names import names_of_module
from atelier.models.views.view import alias


def originals(pipe: Any, lent: Borrowed | None) -> Exact:
    """Where the weights of `pipe` before any LoRA are; `lent` are the views over it, if there are any."""
    views = {} if lent is None else {part: dict(m.named_parameters()) for part, m in modules_of(lent.parts).items()}

    def read(part: str) -> dict[str, Tensor]:
        return names_of_module(components(pipe)[part], weights_on_disk(model_info(), part))

    def loaded(part: str) -> dict[str, Tensor]:
        dirty = {f"{layer.name}." for layer in layers_with_loras(pipe) if layer.part == part}
        tensors = named_tensors(components(pipe)[part])
        return {name: t for name, t in tensors.items() if f"{name.rpartition('.')[0]}." not in dirty}

    file = FromFile(read, loaded)

    def exact(part: str, name: str) -> Tensor | None:
        held = views.get(part, {}).get(name)
        return alias(held) if held is not None and held.numel() else file(part, name)

    return exact


def weights_on_disk(info: ModelInfo | None, part: str) -> dict[str, Tensor]:
    """A component's tensors as the checkpoint has them, under diffusers' names; none when it cannot be read."""
    if info is None or info.path is None or info.family is None:
        return {}
    asked = frozenset(("text_encoder" if part.startswith("text_encoder") else part, "unet"))
    try:
        return weights_from_path(family_named(info.family), info.path, asked).tensors.get(part, {})
    except (AtelierError, OSError):
        return {}
