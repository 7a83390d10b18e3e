"""The layouts of adapter files: the suffixes after a layer's name in kohya's, PEFT's and diffusers' files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

_TO_KOHYA = (
    (r"[._]lora\.down\.weight", "lora_down.weight"),
    (r"[._]lora\.up\.weight", "lora_up.weight"),
    (r"[._]lora\.alpha", "alpha"),
    (r"\.lora_linear_layer\.down\.weight", "lora_down.weight"),
    (r"\.lora_linear_layer\.up\.weight", "lora_up.weight"),
    (r"\.lora_A(?:\.\w+)?\.weight", "lora_down.weight"),
    (r"\.lora_B(?:\.\w+)?\.weight", "lora_up.weight"),
    (r"\.lora_magnitude_vector(?:\.\w+)?(?:\.weight)?", "magnitude"),
    (r"\.lora_down\.weight", "lora_down.weight"),
    (r"\.lora_up\.weight", "lora_up.weight"),
    (r"\.lora_mid\.weight", "lora_mid.weight"),
)
_SAME = (
    "alpha", "dora_scale", "scalar", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "on_input", "oft_blocks", "rescale", "diff_b", "diff", "w_norm", "b_norm", "bias_norm",
    "a1.weight", "a2.weight", "b1.weight", "b2.weight", "weight",
)  # fmt: skip
_PAIRS = (("lora_A", "lora_B"), ("lora_linear_layer.down", "lora_linear_layer.up"), ("lora.down", "lora.up"))
"""Other names of lora_down and lora_up."""
_ENDINGS = tuple((re.compile(pattern + "$"), suffix) for pattern, suffix in _TO_KOHYA)


def split_key(key: str) -> tuple[str, str] | None:
    """Splits a tensor's key into (layer as written in the file, suffix in kohya's or LyCORIS' names); None for others.

    >>> split_key("unet.mid_block.attentions.0.proj_in.lora_A.weight")
    ('unet.mid_block.attentions.0.proj_in', 'lora_down.weight')
    """
    for pattern, suffix in _ENDINGS:
        match = pattern.search(key)
        if match:
            return key[: match.start()], suffix
    for suffix in _SAME:
        if key.endswith("." + suffix):
            return key[: -len(suffix) - 1], suffix
    return None


def suffixes_as_written(layer: str, keys: Iterable[str]) -> list[str]:
    """The ends of a layer's keys as its file writes them, with the dot or underscore before them."""
    return [key[len(layer) :] for key in keys if (split := split_key(key)) is not None and split[0] == layer]


def as_written(suffix: str, others: Iterable[str]) -> str:
    """kohya's `suffix` in the words of the layer's `others`, as `suffixes_as_written` returns them.

    >>> as_written("lora_down.weight", [".lora_B.weight"])
    'lora_A.weight'
    """
    for down, up in _PAIRS:
        magnitude = down == "lora_A" and any("lora_magnitude_vector" in other for other in others)
        if magnitude or any(f"{down}." in other or f"{up}." in other for other in others):
            return suffix.replace("lora_down", down).replace("lora_up", up)
    return suffix


def layers_of(tensors: Mapping[str, T]) -> tuple[dict[str, dict[str, T]], list[str]]:
    """Tensors grouped by layer, {layer: {suffix: tensor}}, and the keys that belong to no adapter."""
    layers: dict[str, dict[str, T]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        split = split_key(key)
        if split is None:
            unknown.append(key)
        else:
            layers.setdefault(split[0], {})[split[1]] = tensor
    return layers, unknown


def layout_of(keys: Iterable[str]) -> str:
    """ "kohya", "peft" (…lora_A.weight), "diffusers" (…lora.down.weight), "comfyui" or "unknown"."""
    for key in keys:
        if re.search(r"\.lora_[AB](\.\w+)?\.weight$", key):
            return "peft"
        if re.search(r"([._]lora|\.lora_linear_layer)\.(down|up)\.weight$", key):
            return "diffusers"
        if key.startswith(("lora_", "lycoris_", "oft_")):
            return "kohya"
        if key.startswith(("diffusion_model.", "text_encoders.")):
            return "comfyui"
    return "unknown"


def kind_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The kind of adapter that has tensors of these shapes; see `LoRAFile.kind`."""
    suffixes: dict[str, tuple[int, ...]] = {}
    spatial = False
    for key, shape in shapes.items():
        split = split_key(key)
        if split is None:
            continue
        suffixes.setdefault(split[1], shape)
        spatial |= split[1] in ("lora_down.weight", "lora_mid.weight") and len(shape) == 4 and max(shape[2:]) > 1
    if "hada_w1_a" in suffixes:
        return "loha"
    if any(suffix.startswith("lokr_") for suffix in suffixes):
        return "lokr"
    if "oft_blocks" in suffixes:
        return "boft" if len(suffixes["oft_blocks"]) == 4 else "oft"
    if "on_input" in suffixes:
        return "ia3"
    if "a1.weight" in suffixes:
        return "glora"
    if "lora_down.weight" in suffixes:
        if "dora_scale" in suffixes or "magnitude" in suffixes:
            return "dora"
        return "locon" if spatial else "lora"
    if "diff" in suffixes:
        return "full"
    return "norm" if "w_norm" in suffixes else "unknown"
