"""Reads diffusers folders: a subfolder per module with config.json and weights, even sharded or as a variant."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atelier.config.errors import AtelierError, shortened
from atelier.models.checkpoints.pickle_file import PickleFile
from atelier.models.checkpoints.tensor_file import SafetensorsFile, TensorFile
from atelier.models.refusals import TRAINABLE, refused_channels
from atelier.models.text.clip_names import canonical
from atelier.models.views.from_ldm import Weights, clip_keys

PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION_NAME = re.compile(r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.")


def is_diffusers_folder(path: Path) -> bool:
    """True for a folder with a model_index.json, or the configuration of a UNet or transformer."""
    return any((path / file).is_file() for file in ("model_index.json", "unet/config.json", "transformer/config.json"))


def transformer_config(path: Path) -> Mapping[str, Any] | None:
    """The configuration of a diffusers folder's transformer; None when it has none."""
    file = path / "transformer" / "config.json"
    return _json(file) if file.is_file() else None


def folder_family(path: Path) -> str:
    """The family's name, from the UNet's configuration. Raises `AtelierError` for a model that cannot be trained."""
    index = _json(path / "model_index.json") if (path / "model_index.json").is_file() else {}
    if not (path / "unet" / "config.json").is_file():
        if (path / "transformer").is_dir():
            name = str(index.get("_class_name", "a transformer model")).removesuffix("Pipeline")
            raise AtelierError(f"{path.name} is a {name} model; {TRAINABLE}")
        raise AtelierError(f"{path.name} is a diffusers folder without a UNet: {path / 'unet'} is missing.")
    config = _json(path / "unet" / "config.json")
    if config.get("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel":
        raise AtelierError(f"{path.name} has a {config['_class_name']} instead of a UNet; {TRAINABLE}")
    channels = config.get("in_channels", 4)
    if not isinstance(channels, int):
        raise AtelierError(f"{path.name} has a UNet with in_channels {shortened(repr(channels))}; it must be a number.")
    said = refused_channels(channels)
    if said:
        raise AtelierError(f"{path.name} {said}.")
    if config.get("addition_embed_type") == "text_time":
        if not (path / "text_encoder" / "config.json").is_file():
            raise AtelierError(f"{path.name} is the SDXL refiner, which cannot be trained. Choose SDXL's base model.")
        return "sdxl"
    return "sd2" if config.get("use_linear_projection") else "sd1"


def folder_schedule(path: Path) -> tuple[str | None, bool]:
    """(prediction type, zero terminal SNR) of the folder's scheduler; None when it has no prediction type."""
    file = path / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return None, False
    config = _json(file)
    return config.get("prediction_type"), bool(config.get("rescale_betas_zero_snr", False))


def configs_of_folder(path: Path) -> dict[str, dict[str, Any]]:
    """The configurations of the parts in a diffusers folder, without opening its weights."""
    return {part: _config(path, part) for part in PARTS if (path / part / "config.json").is_file()}


def _config(path: Path, part: str) -> dict[str, Any]:
    config = _json(path / part / "config.json")
    return clip_keys(config) if part.startswith("text_encoder") else dict(config)


def weights_from_folder(path: Path, parts: frozenset[str], convert: Callable[[Tensor], Tensor]) -> Weights:
    """The tensors of these parts, each passed through `convert` when it is read, and the configurations."""
    weights = Weights()
    for part in PARTS:
        config_file = path / part / "config.json"
        if part.removesuffix("_2") not in parts or not config_file.is_file():
            continue
        weights.configs[part] = _config(path, part)
        weights.tensors[part] = _part_tensors(path / part, part, convert)
    return weights


def vae_folder(path: Path) -> Path | None:
    """The folder with a VAE's config.json and weights: `path` itself, or vae/ in a model's folder; None for others."""
    if (path / "vae" / "config.json").is_file():
        return path / "vae"
    return path if (path / "config.json").is_file() else None


def vae_config_of(folder: Path) -> dict[str, Any]:
    """The configuration in a VAE's folder. Raises `AtelierError` for another kind of module."""
    config = dict(_json(folder / "config.json"))
    kind = config.get("_class_name", "AutoencoderKL")
    if kind != "AutoencoderKL":
        raise AtelierError(f"{folder} has a {shortened(str(kind))}, not an AutoencoderKL.")
    return config


def vae_tensors_of(folder: Path) -> dict[str, Tensor]:
    """The tensors in a VAE's folder, as they are stored. Raises `AtelierError`."""
    return _part_tensors(folder, "vae", lambda tensor: tensor)


def module_tensors(folder: Path, convert: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The tensors of one module's folder under the names that they have there."""
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        with _open(file) as opened:
            tensors.update({name: convert(opened.read(name)) for name in opened.shapes})
    return tensors


def _part_tensors(folder: Path, part: str, convert: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The tensors of one module's folder under today's names, each passed through `convert` when it is read."""
    is_text = part.startswith("text_encoder")
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        with _open(file) as opened:
            for name in opened.shapes:
                if not name.endswith("position_ids"):
                    tensors[_current_name(name, is_text)] = convert(opened.read(name))
    return vae_names(tensors) if part == "vae" else tensors


def vae_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's tensors under diffusers' names of today, with its attention as matrices."""
    return {(now := _current_name(name, False)): _matrix(now, tensor) for name, tensor in tensors.items()}


def _weight_files(folder: Path) -> list[Path]:
    """The weight files of a module, with all shards. Full precision is preferred to variants, .safetensors to .bin."""
    for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
        for suffix in ("safetensors", "bin"):
            # "fp16" and "bf16" are the usual variants. Others are used in the order of their names.
            found = sorted(folder.glob(f"{stem}.{suffix}")) or sorted(folder.glob(f"{stem}.*.{suffix}"))
            found = [file for file in found if "non_ema" not in file.name] or found
            if found:
                return found[:1]
            indexes = sorted(folder.glob(f"{stem}.{suffix}.index*.json"))
            if indexes:
                listed = _json(indexes[0]).get("weight_map")
                names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
                if not names or any(Path(name).name != name for name in names):
                    raise AtelierError(f"{indexes[0]} does not say which files have the weights.")
                missing = [name for name in names if not (folder / name).is_file()]
                if missing:
                    raise AtelierError(f"{folder} is not complete: {missing[0]} is missing.")
                return [folder / name for name in names]
    raise AtelierError(f"{folder} has a config.json but no weights beside it.")


def _open(file: Path) -> SafetensorsFile | PickleFile:
    return SafetensorsFile(file) if file.suffix == ".safetensors" else PickleFile(file)


def open_tensor_file(file: Path) -> TensorFile:
    """Opens a single file of tensors, by its ending."""
    return _open(file)


def _current_name(name: str, is_text: bool) -> str:
    if is_text:
        return canonical(name)
    return _OLD_ATTENTION_NAME.sub(lambda match: f"{match[1]}{_OLD_ATTENTION[match[2]]}.", name)


def _matrix(name: str, tensor: Tensor) -> Tensor:
    """Some old folders have the VAE's attention as 1x1 convolutions: these become matrices."""
    return tensor[:, :, 0, 0] if ".attentions." in name and tensor.ndim == 4 else tensor


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AtelierError(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise AtelierError(f"{path} is not a configuration: it is not a JSON object.")
    return content
