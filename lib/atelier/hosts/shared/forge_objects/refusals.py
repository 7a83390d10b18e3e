"""Decides which models of Forge and its kin can be trained, with a sentence for those that cannot."""

from __future__ import annotations

from typing import Any

import torch

from atelier.hosts.shared.forge_objects.facts import Facts
from atelier.hosts.shared.lease import PLAIN

NOT_YET = {
    "Anima": "Anima",
    "Chroma": "Chroma",
    "ErnieImage": "Ernie-Image",
    "Flux": "Flux.1",
    "Flux2": "Flux.2",
    "Krea2": "Krea 2",
    "Lumina2": "Lumina 2",
    "Mugen": "Mugen, an SDXL with the VAE of Flux.2,",
    "PiD": "PiD",
    "QwenImage": "Qwen-Image",
    "StableDiffusion3": "Stable Diffusion 3",
    "StableDiffusionXLRefiner": "The SDXL refiner",
    "Wan": "Wan",
    "ZImage": "Z-Image",
}
"""Forge's and Forge Neo's classes of models that the trainer has no family for."""

LOW_BITS = 'Set "Diffusion in Low Bits" to Automatic at the top of the page, draw a picture to reload it, then train'
PLAIN_FILE = "Choose a file of it in fp16, bf16 or fp32 to train on"
NAMES = {torch.float8_e4m3fn: "fp8 e4m3", torch.float8_e5m2: "fp8 e5m2", "gguf": "GGUF"}
"""What people call a storage; others have the name that torch or the WebUI has for them."""


def family_of(model: Any) -> str | None:
    """The name of the family of a model of Forge's kin, None for those we cannot train."""
    if type(model).__name__ in NOT_YET or getattr(model, "is_sd3", False):
        return None
    clip = getattr(model.forge_objects, "clip", None)
    if hasattr(getattr(clip, "cond_stage_model", None), "clip_h"):
        return "sd2"  # told from its text encoder: reForge's flags call it an SD1
    for name, flag in (("sdxl", "is_sdxl"), ("sd1", "is_sd1")):
        if getattr(model, flag, False):
            return name
    return None


def refusal_of(model: Any, facts: Facts) -> str | None:
    """Why the model cannot be borrowed, as a sentence that names the setting to change; None when it can."""
    kind = type(model).__name__
    choose = f"Choose a checkpoint of Stable Diffusion {facts.versions}"
    if kind in NOT_YET or getattr(model, "is_sd3", False):
        return f"{NOT_YET.get(kind, 'Stable Diffusion 3')} cannot be trained yet. {choose}."
    if family_of(model) is None:
        return f"{kind} is of a family that cannot be trained yet. {choose}."
    unet = model.forge_objects.unet.model.diffusion_model
    if facts.storage not in PLAIN:
        named = NAMES.get(facts.storage, str(facts.storage).removeprefix("torch."))
        if facts.low_bits_in_file:
            return f"The file of this model holds it in low bits ({named}). {PLAIN_FILE}."
        return f"The model is kept in low bits ({named}). {LOW_BITS}."
    first = unet.get_parameter("input_blocks.0.0.weight")
    if getattr(model, "is_inpaint", False) or first.shape[1] != 4:
        return "This is an inpainting checkpoint, which cannot be trained. Choose the normal one to train on."
    if not hasattr(unet.middle_block, "1"):
        return "This is SSD-1B or Segmind's Vega, which cannot be trained yet. Choose a normal SDXL model."
    if facts.prediction_type == "const":
        return "This is a rectified-flow checkpoint of SDXL, which cannot be trained yet. Choose a normal SDXL model."
    if facts.prediction_type not in ("epsilon", "v_prediction"):
        return (
            f"This checkpoint predicts {facts.prediction_type}, not noise or velocity. Choose another one to train on."
        )
    if first.device.type == "cpu" and first.dtype == torch.float16:
        return "The model is in fp16 on the CPU, which cannot train in fp16. Start the WebUI without --unet-in-fp16."
    return None
