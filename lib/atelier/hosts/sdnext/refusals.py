"""Which of SD.Next's models can be trained, and the sentence for those that cannot."""

from __future__ import annotations

from typing import Any

from torch import nn

from atelier.hosts.shared.lease import PLAIN

WORDS = {"unet": "UNet", "text_encoder": "text encoder", "text_encoder_2": "second text encoder", "vae": "VAE"}
"""What of a pipeline is lent, and how it is called."""


def components(pipe: Any) -> dict[str, nn.Module]:
    """The pipeline's modules that are lent, by name, without what `torch.compile` wraps around them."""
    found = {name: getattr(pipe, name, None) for name in WORDS}
    return {
        name: getattr(module, "_orig_mod", module) for name, module in found.items() if isinstance(module, nn.Module)
    }


def family_of(pipe: Any) -> str | None:
    """The name of the pipeline's family, None for those we cannot train."""
    unet = getattr(components(pipe).get("unet"), "config", None)
    encoders = [name for name in ("text_encoder", "text_encoder_2") if getattr(pipe, name, None) is not None]
    if unet is None or "CrossAttnDownBlock2D" not in (unet.get("down_block_types") or ()):
        return None
    if getattr(pipe, "transformer", None) is not None or getattr(pipe, "prior_pipe", None) is not None:
        return None
    if unet.get("addition_embed_type") == "text_time":
        return "sdxl" if len(encoders) == 2 else None  # the refiner has one
    if encoders != ["text_encoder"]:
        return None
    return "sd2" if unet.get("use_linear_projection") else "sd1"


def refusal_of(pipe: Any, options: Any) -> str | None:
    """Why the model cannot be borrowed, as a sentence that names the setting to change; None when it can.

    `options` are SD.Next's `shared.opts`.
    """
    if family_of(pipe) is None:
        return "This checkpoint is of a family that cannot be trained yet. Choose a checkpoint of SD 1, 2 or XL."
    modules = components(pipe)
    if modules["unet"].config.get("in_channels") != 4:
        return "This is an inpainting checkpoint, which cannot be trained. Choose the normal one to train on."
    if "vae" not in modules or type(modules["vae"]).__name__ != "AutoencoderKL":
        return 'The VAE is not of this model\'s own kind. Set "VAE model" to Default, then train.'
    for name, module in modules.items():
        if any(hasattr(layer, "sdnq_dequantizer") for layer in module.modules()):
            return (
                f"The {WORDS[name]} is quantised by SDNQ. Choose a checkpoint that is not quantised, or empty "
                '"Quantization enabled" in Settings, Model Quantization and load the checkpoint again, then train.'
            )
        odd = next((value.dtype for value in module.parameters() if value.dtype not in PLAIN), None)
        if odd is not None:
            return (
                f"The {WORDS[name]} is kept as {str(odd).removeprefix('torch.')}. Turn everything off in Settings, "
                "Model Quantization and load the checkpoint again, then train."
            )
    if getattr(options, "lora_fuse_diffusers", False) and getattr(options, "lora_force_diffusers", False):
        return (
            'The setting "LoRA diffusers fuse with model" leaves LoRAs in the model for good. Turn it off in Settings, '
            "Networks and load the checkpoint again, then train."
        )
    return None
