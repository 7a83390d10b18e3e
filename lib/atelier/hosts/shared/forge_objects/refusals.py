"""Decides which of Forge's and reForge's models can be trained, with a sentence for those that cannot."""

from __future__ import annotations

from typing import Any

import torch

from atelier.hosts.shared.lease import PLAIN

NOT_YET = {
    "Flux": "Flux",
    "Chroma": "Chroma",
    "StableDiffusion3": "Stable Diffusion 3",
    "StableDiffusionXLRefiner": "the SDXL refiner",
}
"""Forge's classes of models that the trainer has no family for."""

TRAINABLE = "Choose a checkpoint of Stable Diffusion 1, 2 or XL"
LOW_BITS = 'Set "Diffusion in Low Bits" to Automatic at the top of the page, draw a picture to reload it, then train'


def family_of(model: Any) -> str | None:
    """The name of the family of a model of Forge's or reForge's, None for those we cannot train."""
    if type(model).__name__ in NOT_YET or getattr(model, "is_sd3", False):
        return None
    clip = getattr(model.forge_objects, "clip", None)
    if hasattr(getattr(clip, "cond_stage_model", None), "clip_h"):
        return "sd2"  # told from its text encoder: reForge's flags call it an SD1
    for name, flag in (("sdxl", "is_sdxl"), ("sd1", "is_sd1")):
        if getattr(model, flag, False):
            return name
    return None


def refusal_of(model: Any, storage: object, prediction: str) -> str | None:
    """Why the model cannot be borrowed, as a sentence that names the setting to change; None when it can.

    `storage` is what the UNet's weights are kept in: a torch.dtype, or "nf4", "fp4", "gguf".
    """
    kind = type(model).__name__
    if kind in NOT_YET or getattr(model, "is_sd3", False):
        return f"{NOT_YET.get(kind, 'Stable Diffusion 3')} cannot be trained yet. {TRAINABLE}."
    if family_of(model) is None:
        return f"{kind} is of a family that cannot be trained yet. {TRAINABLE}."
    unet = model.forge_objects.unet.model.diffusion_model
    if storage not in PLAIN:
        return f"The model is kept in low bits ({_named(storage)}). {LOW_BITS}."
    first = unet.get_parameter("input_blocks.0.0.weight")
    if getattr(model, "is_inpaint", False) or first.shape[1] != 4:
        return "This is an inpainting checkpoint, which cannot be trained. Choose the normal one to train on."
    if not hasattr(unet.middle_block, "1"):
        return "This is SSD-1B or Segmind's Vega, which cannot be trained yet. Choose a normal SDXL model."
    if prediction not in ("epsilon", "v_prediction"):
        return f"This checkpoint predicts {prediction}, not noise or velocity. Choose another one to train on."
    if first.device.type == "cpu" and first.dtype == torch.float16:
        return "The model is in fp16 on the CPU, which cannot train in fp16. Start the WebUI without --unet-in-fp16."
    return None


def _named(storage: object) -> str:
    names = {torch.float8_e4m3fn: "fp8 e4m3", torch.float8_e5m2: "fp8 e5m2", "gguf": "GGUF"}
    return names.get(storage, str(storage).removeprefix("torch."))
