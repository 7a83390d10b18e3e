"""Reads Z-Image from single files and from diffusers folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.models.checkpoints.folder import module_tensors, vae_config_of, vae_tensors_of
from atelier.models.families.z_image.names import config_of, from_diffusers, module_path, prefix_of
from atelier.models.family import TensorSource
from atelier.models.views.view import view

Convert = Callable[[Tensor], Tensor]
QUANTISED = ("scaled_fp8", ".comfy_quant", ".scale_weight", ".weight_scale", ".qweight")
"""Ends of names beside weights in few bits."""


def transformer_class() -> type[nn.Module]:
    """Our transformer. Raises `AtelierError` where diffusers has none to make it from."""
    try:
        from atelier.models.families.z_image.transformer import ZImageTransformer
    except ImportError as error:
        raise AtelierError("Z-Image needs diffusers 0.36 or newer, which is not installed here.") from error
    return ZImageTransformer


def transformer_from_file(file: TensorSource, convert: Convert) -> nn.Module:
    """The transformer of a single file, over the tensors as `convert` gives them."""
    prefix = prefix_of(file.shapes)
    if prefix is None:
        raise AtelierError("The file has no transformer of Z-Image.")
    shapes = {name[len(prefix) :]: shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    if any(name.endswith(QUANTISED) for name in shapes):
        raise AtelierError("Its weights are quantised (scaled fp8 and the like). Choose the file in bf16 or fp16.")
    config = config_of(shapes)
    if prefix == "":
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith(("text_encoders.", "vae."))}
    tensors = {module_path(name): convert(file.read(prefix + name)) for name in shapes}
    return view(transformer_class(), config, tensors)


def transformer_from_folder(folder: Path, convert: Convert) -> nn.Module:
    """The transformer of a diffusers folder."""
    config = _config(folder / "transformer")
    tensors = from_diffusers(module_tensors(folder / "transformer", convert))
    return view(transformer_class(), config, tensors)


def text_from_folder(folder: Path, convert: Convert) -> nn.Module:
    """Qwen3 without its head. Raises `AtelierError` where transformers is too old for it."""
    try:
        from transformers import Qwen3Config, Qwen3Model
    except ImportError as error:
        raise AtelierError("Z-Image's text encoder needs transformers 4.51 or newer.") from error
    given = module_tensors(folder / "text_encoder", convert)
    tensors = {name.removeprefix("model."): tensor for name, tensor in given.items() if name != "lm_head.weight"}
    return view(Qwen3Model, Qwen3Config(**_config(folder / "text_encoder")), tensors)


def vae_from_folder(folder: Path, convert: Convert) -> nn.Module:
    """Flux's VAE."""
    tensors = {name: convert(tensor) for name, tensor in vae_tensors_of(folder / "vae").items()}
    return view(AutoencoderKL, vae_config_of(folder / "vae"), tensors)


def tokenizer_from_folder(folder: Path) -> Any:
    """The tokenizer beside the text encoder. Raises `AtelierError` when there is none."""
    from transformers import AutoTokenizer

    place = folder / "tokenizer"
    if not place.is_dir():
        raise AtelierError(f"{folder.name} is not complete: {place} is missing.")
    return AutoTokenizer.from_pretrained(str(place), local_files_only=True)


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AtelierError(f"{folder / 'config.json'} cannot be read: {error}.") from error
