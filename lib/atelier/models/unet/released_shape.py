"""The released models of Stable Diffusion without weights, and small stand-ins of the same classes."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel

from atelier.models.assets import load_tokenizers, released_config
from atelier.models.family import Family, Parts
from atelier.models.unet.ldm_names import TEXT_PARTS
from atelier.models.views.from_ldm import TEXT_CLASSES
from atelier.models.views.view import build_empty

_WIDTH = 32
"""Of a small text encoder's states."""
_UNET = {
    "block_out_channels": [16, 32], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1, "norm_num_groups": 8,
}  # fmt: skip
_VAE = {"block_out_channels": [8] * 4, "norm_num_groups": 4, "layers_per_block": 1}
_TEXT = {
    "hidden_size": _WIDTH, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2,
    "projection_dim": _WIDTH,
}  # fmt: skip


def released_shape(family: Family, small: bool) -> Parts:
    """All parts of the family's released model on the meta device, or of a small stand-in for it."""
    unet, vae = released_config(family.name, "unet"), released_config(family.name, "vae")
    kinds = TEXT_CLASSES[family.name]
    texts = [released_config(family.name, part) for part in TEXT_PARTS[: len(kinds)]]
    if small:
        unet, vae, texts = _small_unet(unet, len(kinds)), {**vae, **_VAE}, [{**text, **_TEXT} for text in texts]
    return Parts(
        family,
        build_empty(UNet2DConditionModel, unet),
        [build_empty(kind, text) for kind, text in zip(kinds, texts, strict=True)],
        load_tokenizers(family.name),
        build_empty(AutoencoderKL, vae),
    )


def _small_unet(released: dict[str, Any], encoders: int) -> dict[str, Any]:
    """Two levels; what the released UNet states for each level is stated for both."""
    small = {**released, **_UNET, "cross_attention_dim": _WIDTH * encoders}
    small["attention_head_dim"] = [2, 4] if isinstance(released["attention_head_dim"], list) else 4
    if isinstance(released.get("transformer_layers_per_block"), list):
        small["transformer_layers_per_block"] = [1, 1]
    if released.get("addition_embed_type") == "text_time":
        small["addition_time_embed_dim"] = 8
        small["projection_class_embeddings_input_dim"] = _WIDTH + 6 * 8
    return small
