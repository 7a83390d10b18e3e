"""Finds a model's layers under the names that other programs' files have for them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from atelier.adapters.layers.targets import TEXT_PARTS, UNET, Target
from atelier.models.family import Parts

_RESNET = {
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
    "add_embedding_linear_1": "label_emb_0_0",
    "add_embedding_linear_2": "label_emb_0_2",
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
}
_TEXT_PREFIXES = (
    (
        "lora_te_", "lora_te1_", "lycoris_te_", "text_encoder_", "base_model_model_",
        "text_encoders_clip_l_transformer_", "text_encoders_clip_h_transformer_",
    ),
    ("lora_te2_", "text_encoder_2_", "text_encoders_clip_g_transformer_"),
)  # fmt: skip
"""Of the first and the second text encoder. ComfyUI names CLIP L of SD1 and SDXL, H of SD2 and G of SDXL."""
_UNET_PREFIXES = ("lora_unet_", "lycoris_unet_", "lycoris_", "unet_", "base_model_model_", "base_model_model_unet_", "")
_TRANSFORMER_PREFIXES = ("diffusion_model_", "transformer_")
"""In front of a transformer's own names, in files of ComfyUI and PEFT."""
_LDM_PREFIXES = ("lora_unet_", "lycoris_", "diffusion_model_", "model_diffusion_model_", "unet_")


def all_layers(parts: Parts) -> list[Target]:
    """Every Linear and Conv2d of UNet and text encoders, even those that our own networks do not adapt."""
    found: list[Target] = []
    roots = [(part, encoder) for part, encoder in zip(TEXT_PARTS, parts.text_encoders)] + [(UNET, parts.denoiser)]
    for part, root in roots:
        for path, module in root.named_modules():
            if path and isinstance(module, (nn.Linear, nn.Conv2d)):
                found.append(Target(part, path, kohya_name(parts, part, path), module))
    return found


def kohya_name(parts: Parts, part: str, path: str) -> str:
    """kohya's name of the layer at `path` in a part."""
    if part == UNET:
        return parts.family.denoiser_lora_name(path)
    return parts.family.text_lora_name(TEXT_PARTS.index(part), path)


class LayerNames:
    """Looks up layers by any name that files use for them."""

    def __init__(self, parts: Parts) -> None:
        self.layers = all_layers(parts)
        self._by_name: dict[str, Target] = {target.name: target for target in self.layers}
        ldm = ldm_names(parts.denoiser)
        for target in self.layers:
            for name in _aliases(target, ldm):
                self._by_name.setdefault(name, target)

    def find(self, layer: str) -> Target | None:
        """The layer that a file calls `layer`, by kohya's, PEFT's, diffusers', LDM's or ComfyUI's name, or None."""
        name = layer.replace(".", "_")
        found = self._by_name.get(name)
        return found if found is not None else self._by_name.get(name.replace("_processor_", "_"))


def _aliases(target: Target, ldm: dict[str, str]) -> Iterator[str]:
    path = target.path.replace(".", "_")
    if target.part == UNET:
        for prefix in _UNET_PREFIXES:
            yield prefix + path
            if path.endswith("_to_out_0"):
                yield prefix + path[:-2]
        if not ldm:
            for prefix in _TRANSFORMER_PREFIXES:
                yield prefix + target.name.removeprefix("lora_unet_")
        if path in ldm:
            for prefix in _LDM_PREFIXES:
                yield prefix + ldm[path]
        return
    bare = path.removeprefix("text_model_")
    old = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    for prefix in _TEXT_PREFIXES[TEXT_PARTS.index(target.part)]:
        for name in (f"text_model_{bare}", bare):
            yield prefix + name
            for new, former in old.items():
                if name.endswith(new):
                    yield prefix + name[: -len(new)] + former


def ldm_names(unet: nn.Module) -> dict[str, str]:
    """LDM's path of each layer of a diffusers UNet, both with underscores.

    LDM counts the down blocks from 1 (0 is the first convolution), where a sampler is a block of its own. It counts the
    up blocks from 0, where a sampler is the last member of a block. A transformer has no such names.
    """
    if not hasattr(unet, "down_blocks"):
        return {}
    blocks: dict[str, str] = {"mid_block_resnets_0": "middle_block_0", "mid_block_resnets_1": "middle_block_2"}
    blocks["mid_block_attentions_0"] = "middle_block_1"
    index = 1
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            blocks[f"down_blocks_{level}_resnets_{layer}"] = f"input_blocks_{index}_0"
            blocks[f"down_blocks_{level}_attentions_{layer}"] = f"input_blocks_{index}_1"
            index += 1
        if getattr(block, "downsamplers", None):
            blocks[f"down_blocks_{level}_downsamplers_0_conv"] = f"input_blocks_{index}_0_op"
            index += 1
    index = 0
    for level, block in enumerate(unet.up_blocks):
        place = 2 if hasattr(block, "attentions") else 1
        for layer in range(len(block.resnets)):
            blocks[f"up_blocks_{level}_resnets_{layer}"] = f"output_blocks_{index}_0"
            blocks[f"up_blocks_{level}_attentions_{layer}"] = f"output_blocks_{index}_1"
            index += 1
        if getattr(block, "upsamplers", None):
            blocks[f"up_blocks_{level}_upsamplers_0_conv"] = f"output_blocks_{index - 1}_{place}_conv"
    names = dict(_ENDS)
    for path, module in unet.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        flat = path.replace(".", "_")
        start = next((block for block in blocks if flat == block or flat.startswith(block + "_")), None)
        if start is not None:
            rest = flat[len(start) + 1 :]
            rest = _RESNET.get(rest, rest) if "_resnets_" in start else rest
            names[flat] = blocks[start] + (f"_{rest}" if rest else "")
    return names
