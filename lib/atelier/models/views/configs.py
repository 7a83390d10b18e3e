"""Derives the configurations of diffusers and transformers modules from the shapes of an LDM file's tensors.

A released model gets exactly its released configuration. For a custom model, the shapes show width, depth and the
content of each level. They do not show numbers of heads and groups. Heads follow the family's rule; groups are the
largest number up to 32 that divides every width. A file that differs states so in its metadata (see
`checkpoints.stated`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from atelier.config.errors import AtelierError
from atelier.models.assets import released_config
from atelier.models.unet.ldm_names import UNET_PREFIX, VAE_PREFIX, Structure, TextLayout

Shapes = Mapping[str, Sequence[int]]

TEXT_LAYOUTS: dict[str, tuple[TextLayout, ...]] = {
    "sd1": (TextLayout("cond_stage_model.transformer."),),
    "sd2": (TextLayout("cond_stage_model.model.", open_clip=True),),
    "sdxl": (
        TextLayout("conditioner.embedders.0.transformer."),
        TextLayout("conditioner.embedders.1.model.", open_clip=True, projection=True),
    ),
}


def structure_of(family: str, shapes: Shapes) -> Structure:
    """The structure of an LDM file, which decides its names."""
    has_unet = UNET_PREFIX + "input_blocks.0.0.weight" in shapes
    unet = unet_config(family, shapes) if has_unet else None
    return structure_from_configs(family, unet, vae_config(family, shapes), text_layouts(family, shapes))


def structure_from_configs(
    family: str,
    unet: Mapping[str, Any] | None,
    vae: Mapping[str, Any] | None,
    texts: tuple[TextLayout, ...] | None = None,
) -> Structure:
    """The structure, from configurations. A configuration that is None stands for that of the released model."""
    unet = unet or released_config(family, "unet")
    vae = vae or released_config(family, "vae")
    return Structure(
        unet_attention=tuple(kind.startswith("CrossAttn") for kind in unet["down_block_types"]),
        unet_layers=_one_number(unet["layers_per_block"]),
        vae_levels=len(vae["block_out_channels"]),
        vae_layers=_one_number(vae["layers_per_block"]),
        texts=TEXT_LAYOUTS[family] if texts is None else texts,
    )


def text_layouts(family: str, shapes: Shapes) -> tuple[TextLayout, ...]:
    """The places of the text encoders in this file. Some old files leave out "text_model."."""
    layouts = []
    for layout in TEXT_LAYOUTS[family]:
        if not layout.open_clip and layout.prefix + "embeddings.token_embedding.weight" in shapes:
            layout = TextLayout(layout.prefix, bare=True)
        layouts.append(layout)
    return tuple(layouts)


def unet_config(family: str, shapes: Shapes) -> dict[str, Any]:
    """The UNet's configuration. Raises `AtelierError` when the tensors do not belong to such a UNet."""
    own = {key.removeprefix(UNET_PREFIX): shape for key, shape in shapes.items() if key.startswith(UNET_PREFIX)}
    levels = _unet_levels(own)
    channels = [level[0] for level in levels]
    depths = [level[1] for level in levels]
    counts = {level[2] for level in levels}
    if len(counts) != 1:
        raise AtelierError("The UNet has levels with different numbers of blocks; such a model is not supported.")
    config = released_config(family, "unet")
    kinds = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
    config.update(
        in_channels=own["input_blocks.0.0.weight"][1],
        out_channels=own["out.2.weight"][0],
        block_out_channels=channels,
        layers_per_block=counts.pop(),
        down_block_types=kinds,
        up_block_types=[kind.replace("Down", "Up") for kind in reversed(kinds)],
        norm_num_groups=_groups(channels),
    )
    if set(depths) <= {0, 1}:
        config["transformer_layers_per_block"] = 1
    else:
        config["transformer_layers_per_block"] = [depth or 1 for depth in depths]
    for key, shape in own.items():
        if key.endswith("attn2.to_k.weight"):
            config["cross_attention_dim"] = shape[1]
        if key.endswith(".proj_in.weight"):
            config["use_linear_projection"] = len(shape) == 2
    if family == "sd1":
        config["attention_head_dim"] = math.gcd(8, *channels)
    else:
        config["attention_head_dim"] = [_heads_of_64(width) for width in channels]
    if "label_emb.0.0.weight" in own:
        width = own["label_emb.0.0.weight"][1]
        config["projection_class_embeddings_input_dim"] = width
        projection = shapes.get("conditioner.embedders.1.model.text_projection")
        if projection is not None:
            config["addition_time_embed_dim"] = (width - projection[1]) // 6
    return config


def _unet_levels(own: Shapes) -> list[tuple[int, int, int]]:
    """For every level, finest first: width, depth of its transformers (0 for none), and number of blocks."""
    levels: list[tuple[int, int, int]] = []
    width, depth, blocks, index = 0, 0, 0, 1
    while True:
        if f"input_blocks.{index}.0.out_layers.3.weight" in own:
            width = own[f"input_blocks.{index}.0.out_layers.3.weight"][0]
            depth = _count(own, f"input_blocks.{index}.1.transformer_blocks.")
            blocks += 1
        elif f"input_blocks.{index}.0.op.weight" in own:
            levels.append((width, depth, blocks))
            blocks = 0
        else:
            break
        index += 1
    levels.append((width, depth, blocks))
    if not width or not blocks or "out.2.weight" not in own:
        raise AtelierError("The UNet's tensors are not complete: its blocks or its output layer are missing.")
    return levels


def vae_config(family: str, shapes: Shapes) -> dict[str, Any] | None:
    """The autoencoder's configuration, or None when the file has none."""
    own = {key.removeprefix(VAE_PREFIX): shape for key, shape in shapes.items() if key.startswith(VAE_PREFIX)}
    if "encoder.conv_in.weight" not in own:
        return None
    return autoencoder_config(family, own, "encoder.down.", "block.")


def autoencoder_config(family: str, own: Shapes, down: str, block: str) -> dict[str, Any]:
    """The configuration by the VAE's own shapes. `down` and `block`: how its layout calls levels and their blocks."""
    levels = _count(own, down)
    channels = [own[f"{down}{level}.{block}0.conv2.weight"][0] for level in range(levels)]
    config = released_config(family, "vae")
    config.update(
        block_out_channels=channels,
        layers_per_block=_count(own, f"{down}0.{block}"),
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        in_channels=own["encoder.conv_in.weight"][1],
        out_channels=own["decoder.conv_out.weight"][0],
        latent_channels=own["decoder.conv_in.weight"][1],
        norm_num_groups=_groups(channels),
    )
    return config


def text_config(family: str, index: int, shapes: Shapes) -> dict[str, Any]:
    """The configuration of text encoder number `index`. Raises `AtelierError` when the file has none.

    SD2's last layer is never used, so its module is built without it, as diffusers does.
    """
    layout = text_layouts(family, shapes)[index]
    own = {key.removeprefix(layout.prefix): shape for key, shape in shapes.items() if key.startswith(layout.prefix)}
    config = released_config(family, "text_encoder" if index == 0 else "text_encoder_2")
    if layout.open_clip:
        embedding, positions = "token_embedding.weight", "positional_embedding"
        layers, first = "transformer.resblocks.", "mlp.c_fc.weight"
    else:
        body = "" if layout.bare else "text_model."
        embedding = body + "embeddings.token_embedding.weight"
        positions = body + "embeddings.position_embedding.weight"
        layers, first = body + "encoder.layers.", "mlp.fc1.weight"
    if embedding not in own or positions not in own:
        raise AtelierError("The file has no text encoder, so prompts cannot be read with it.")
    count = _count(own, layers)
    width = own[embedding][1]
    config.update(
        vocab_size=own[embedding][0],
        hidden_size=width,
        max_position_embeddings=own[positions][0],
        num_hidden_layers=count - 1 if family == "sd2" else count,
        intermediate_size=own[f"{layers}0.{first}"][0],
        num_attention_heads=_heads_of_64(width),
    )
    if layout.projection:
        config["projection_dim"] = own["text_projection"][1]
    return config


def _count(own: Shapes, prefix: str) -> int:
    """The number of numbered children of `prefix`, from 0. Raises `AtelierError` when one in between is missing."""
    found = {key[len(prefix) :].split(".", 1)[0] for key in own if key.startswith(prefix)}
    numbers = {number for number in found if number.isdecimal()}
    if numbers != {str(number) for number in range(len(numbers))}:
        raise AtelierError(f"Some of the layers {prefix}0, 1, 2 … are missing.")
    return len(numbers)


def _groups(channels: Sequence[int]) -> int:
    return math.gcd(32, *channels)


def _heads_of_64(width: int) -> int:
    heads = max(1, width // 64)
    return heads if width % heads == 0 else 1


def _one_number(value: int | Sequence[int]) -> int:
    if isinstance(value, int):
        return value
    if len(set(value)) != 1:
        raise AtelierError("The model has levels with different numbers of blocks; such a model is not supported.")
    return value[0]
