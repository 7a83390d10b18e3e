"""The model that Forge, Forge Neo or reForge has loaded: the same objects, of which each speaks in words of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from atelier.hosts.contract import ModelInfo
from atelier.hosts.shared.forge_objects.facts import Facts
from atelier.hosts.shared.forge_objects.refusals import family_of, refusal_of
from atelier.hosts.shared.identity import file_identity


def current() -> Any:
    """The WebUI's model, or None; never makes it load one. Until Forge's first picture there is a placeholder."""
    from modules import sd_models

    model = getattr(sd_models.model_data, "sd_model", None)  # Forge Neo's Unload takes it away for a moment
    return model if getattr(model, "forge_objects", None) is not None else None


def model_info(facts_of: Callable[[Any], Facts], device: Callable[[], torch.device]) -> ModelInfo | None:
    """The model loaded now, or None. `device` is the one that the WebUI computes on."""
    model = current()
    checkpoint = getattr(model, "sd_checkpoint_info", None)
    if model is None or checkpoint is None:
        return None
    path = Path(checkpoint.filename)
    facts = facts_of(model)
    parameter = next(model.forge_objects.unet.model.diffusion_model.parameters())
    return ModelInfo(
        title=checkpoint.name_for_extra,
        family=family_of(model),
        path=path,
        identity=f"{file_identity(path)}:{facts.loaded_as}",
        prediction_type=facts.prediction_type,
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(device()),
        refusal=refusal_of(model, facts),
    )
