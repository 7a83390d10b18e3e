"""What reForge says of its model."""

from __future__ import annotations

import sys
from typing import Any

from atelier.hosts.shared.forge_objects.facts import Facts

MODEL_TYPES = {"EPS": "epsilon", "V_PREDICTION": "v_prediction"}
"""reForge's words for what a UNet predicts, in ours."""


def facts_of(model: Any) -> Facts:
    """What the trainer has to know of a loaded model. Raises what Python raises for one that is being taken apart."""
    return Facts(
        prediction_type=_prediction_type(model),
        zero_terminal_snr=bool(getattr(model, "ztsnr", False)),
        storage=next(model.forge_objects.unet.model.diffusion_model.parameters()).dtype,
        loaded_as=_loaded_as(model),
    )


def _prediction_type(model: Any) -> str:
    if getattr(model, "parameterization", "eps") == "v":
        return "v_prediction"
    named = getattr(getattr(model.forge_objects.unet.model, "model_type", None), "name", "EPS")
    return MODEL_TYPES.get(named, named)


def _loaded_as(model: Any) -> str:
    """The file's hash, the VAE put in, and a text encoder put in."""
    chosen = getattr(sys.modules.get("modules.sd_text_encoder"), "current_text_encoder_option", None)
    encoder = getattr(chosen, "label", None) if getattr(model, "_separate_te_loaded", False) else None
    return f"{model.sd_model_hash}:{getattr(model, 'loaded_vae_file', None)}:{encoder}"
