"""The model that A1111 has loaded: its family, and why it cannot be borrowed, if so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from atelier.hosts.contract import ModelInfo
from atelier.hosts.shared.identity import file_identity


def current() -> Any:
    """The WebUI's model object, or None; never makes it load one."""
    from modules import sd_models

    return sd_models.model_data.sd_model


def model_info() -> ModelInfo | None:
    """The model loaded now, or None."""
    from modules import devices

    model = current()
    checkpoint = getattr(model, "sd_checkpoint_info", None)
    if model is None or checkpoint is None:
        return None
    path = Path(checkpoint.filename)
    parameter = next(model.model.diffusion_model.parameters())
    return ModelInfo(
        title=checkpoint.name_for_extra,
        family=family_of(model),
        path=path,
        # Another VAE is put into the same model, and latents that the first one made are not the second's.
        identity=f"{file_identity(path)}:{model.sd_model_hash}:{getattr(model, 'loaded_vae_file', None)}",
        prediction_type=prediction_type(model),
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(devices.device if fetches_parts(model) else parameter.device),
        refusal=refusal_of(model),
    )


def prediction_type(model: Any) -> str:
    """The prediction type of its UNet: "epsilon" or "v_prediction"."""
    return "v_prediction" if getattr(model, "parameterization", "eps") == "v" else "epsilon"


def family_of(model: Any) -> str | None:
    """The name of the family that the WebUI says its model is of, None for those we cannot train."""
    if getattr(model, "is_sd3", False) or getattr(model, "is_ssd", False):
        return None
    for name, flag in (("sdxl", "is_sdxl"), ("sd2", "is_sd2"), ("sd1", "is_sd1")):
        if getattr(model, flag, False):
            return name
    return None


def refusal_of(model: Any) -> str | None:
    """Why the model cannot be borrowed, as a sentence that names the setting to change; None when it can."""
    from modules import devices, shared

    if getattr(model, "is_sd3", False):
        return "Stable Diffusion 3 cannot be trained yet. Choose a checkpoint of SD 1, 2 or XL."
    if family_of(model) is None:
        return "This checkpoint is of a family that cannot be trained yet. Choose a checkpoint of SD 1, 2 or XL."
    unet = model.model.diffusion_model
    if not fetches_parts(model) and next(unet.parameters()).device.type != devices.device.type:
        return (
            "The checkpoint is unloaded. Load it again with Settings, Actions, "
            '"Load SD checkpoint to VRAM from RAM", or by choosing it at the top of the page.'
        )
    channels = next(p for name, p in unet.named_parameters() if name.endswith("input_blocks.0.0.weight")).shape[1]
    if channels != 4:
        return "This is an inpainting checkpoint, which cannot be trained. Choose the normal one to train on."
    if getattr(devices, "fp8", False):
        return 'The model is kept in 8 bits. Set "FP8 weight" to Disable in Settings, Optimizations, then train.'
    if getattr(shared.opts, "lora_functional", False):
        return (
            'The setting "Lora/Networks: use old method" changes the model while drawing. Turn it off in Settings, '
            "Compatibility, then train."
        )
    return None


def fetches_parts(model: Any) -> bool:
    """True with medvram and lowvram: the model is in the CPU's memory, and its parts are fetched as they compute."""
    return bool(getattr(model, "lowvram", False))


def text_module(model: Any) -> nn.Module:
    """The module with the text encoders: `cond_stage_model`, in SDXL `conditioner`."""
    conditioner = getattr(model, "conditioner", None)
    return conditioner if conditioner is not None else model.cond_stage_model
