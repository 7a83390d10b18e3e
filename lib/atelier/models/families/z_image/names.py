"""Names of Z-Image's tensors: the file's own, as ComfyUI's and the WebUIs' LoRA names have them, and diffusers'.

Our module has the file's own names but for two, and its attention's one matrix for q, k and v: a LoRA of it is what a
WebUI loads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
"""In front of the transformer's tensors: a checkpoint with everything in it, ComfyUI's, and a transformer alone."""
MARKS = ("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight")
"""Of the family: captions that are embedded, and a refiner of the noisy picture (Lumina 2 has no `x_pad_token`)."""
_ENDS = (("all_x_embedder.2-1.", "x_embedder."), ("all_final_layer.2-1.", "final_layer."))
_OF_DIFFUSERS = ((".attention.to_out.0.", ".attention.out."), (".attention.norm_q.", ".attention.q_norm."),
                 (".attention.norm_k.", ".attention.k_norm."))  # fmt: skip
_PART = re.compile(r"^(.*attention[._])to_([qkv])$")
_OUT = re.compile(r"^(.*attention[._])to_out[._]0$")
_SPLIT = re.compile(r"^(.*\.attention\.)to_([qkv])\.weight$")


def prefix_of(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The prefix of the transformer's names in a file; None when it has no transformer of this family."""
    for prefix in PREFIXES:
        if all(prefix + mark in shapes for mark in (*MARKS, "x_pad_token")):
            return prefix
    return None


def own_path(path: str) -> str:
    """The file's name of a layer or tensor from its name in our module: "all_x_embedder.2-1" is "x_embedder"."""
    for ours, own in _ENDS:
        if (path + ".").startswith(ours):
            return (own + (path + ".")[len(ours) :]).removesuffix(".")
    return path


def module_path(name: str) -> str:
    """The inverse of `own_path`."""
    for ours, own in _ENDS:
        if name.startswith(own):
            return ours + name[len(own) :]
    return name


def own_layer(layer: str) -> tuple[str, int, int] | None:
    """See `models.family.ReadsOtherNames`: diffusers' names of an attention's layers, also with underscores."""
    split = _PART.match(layer)
    if split is not None:
        return split[1] + "qkv", "qkv".index(split[2]), 3
    out = _OUT.match(layer)
    return (out[1] + "out", 0, 1) if out is not None else None


def config_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The transformer's configuration from the shapes of its tensors, under the file's own names without prefix.

    Raises KeyError and IndexError for a file that is not whole.
    """
    dim, head = int(shapes["cap_embedder.1.weight"][0]), int(shapes["layers.0.attention.k_norm.weight"][0])
    return {
        "dim": dim,
        "n_heads": dim // head,
        "n_kv_heads": dim // head,
        "n_layers": _count(shapes, "layers."),
        "n_refiner_layers": _count(shapes, "noise_refiner."),
        "cap_feat_dim": int(shapes["cap_embedder.1.weight"][1]),
        "in_channels": int(shapes["x_embedder.weight"][1]) // 4,
        "axes_dims": [head // 4, head * 3 // 8, head * 3 // 8],
    }


def from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' tensors under our module's names; the three matrices of an attention become one, which is a copy."""
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        split = _SPLIT.match(name)
        if split is not None:
            parts.setdefault(split[1], {})[split[2]] = tensor
            continue
        for theirs, ours in _OF_DIFFUSERS:
            name = name.replace(theirs, ours)
        found[name] = tensor
    for place, matrices in parts.items():
        found[place + "qkv.weight"] = torch.cat([matrices[letter] for letter in "qkv"])
    return found


def _count(shapes: Mapping[str, Sequence[int]], prefix: str) -> int:
    return len({name[len(prefix) :].split(".", 1)[0] for name in shapes if name.startswith(prefix)})
