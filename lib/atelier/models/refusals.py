"""Recognises models that cannot be trained by their tensors, and says in a sentence what they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from atelier.models.unet.ldm_names import UNET_PREFIX

TRAINABLE = "Atelier trains Stable Diffusion 1.x, 2.x and XL."

_LORA_MARKS = (
    ".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".hada_w1_a", ".lokr_w1", "_lora.down.", "_lora.up.",
    ".oft_blocks", ".oft_diag", ".on_input",
)  # fmt: skip

_OTHERS = (
    ("joint_blocks.", "a Stable Diffusion 3 model"),
    ("double_blocks.", "a Flux model"),
    ("double_stream_blocks.", "a HiDream model"),
    ("cap_embedder.", "a Lumina model"),
    ("clip_txt_mapper.", "a Stable Cascade model"),
    ("blocks.0.cross_attn.", "a Wan video model"),
    ("transformer_blocks.0.attn.add_q_proj", "a Stable Diffusion 3 or Flux model"),
    ("time_stack.", "a video model (Stable Video Diffusion)"),
    ("temporal_transformer.", "an AnimateDiff motion module"),
    ("zero_convs.", "a ControlNet"),
    ("controlnet_down_blocks.", "a ControlNet"),
    ("string_to_param", "a textual inversion embedding"),
    ("emb_params", "a textual inversion embedding"),
)

_CHANNELS = {
    9: "an inpainting model (9 input channels instead of 4)",
    5: "a depth-to-image model (5 input channels instead of 4)",
    8: "an instruct-pix2pix model (8 input channels instead of 4)",
    7: "an upscaler (7 input channels instead of 4)",
}


def refusal(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Why a checkpoint with these tensors (LDM layout) cannot be trained, as "is …"; None when no reason is known."""
    if any(mark in name + "." for name in shapes for mark in _LORA_MARKS):
        return "is a LoRA, not a checkpoint; choose the model that it is for"
    for mark, what in _OTHERS:
        if any(mark in name for name in shapes):
            return f"is {what}; {TRAINABLE}"
    first = shapes.get(UNET_PREFIX + "input_blocks.0.0.weight")
    if first is not None:
        said = refused_channels(first[1])
        if said:
            return said
        if _any_under(shapes, "conditioner.embedders.0.model.") and not _any_under(
            shapes, "conditioner.embedders.1.model."
        ):
            return f"is the SDXL refiner, which cannot be trained; choose SDXL's base model. {TRAINABLE}"
        return None
    if any(name.startswith(("encoder.down.", "encoder.down_blocks.", "first_stage_model.")) for name in shapes):
        return "is only a VAE, without the UNet that is trained"
    return None


def is_stable_diffusion(shapes: Mapping[str, Sequence[int]]) -> bool:
    """True for the tensors of a checkpoint with Stable Diffusion's UNet, of a kind that can be trained."""
    return UNET_PREFIX + "input_blocks.0.0.weight" in shapes and refusal(shapes) is None


def refused_channels(count: int) -> str | None:
    """Why a UNet of `count` input channels cannot be trained; None for 4."""
    if count == 4:
        return None
    return f"is {_CHANNELS.get(count, f'a model with {count} input channels instead of 4')}; {TRAINABLE}"


def _any_under(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)
