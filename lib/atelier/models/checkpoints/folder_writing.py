"""Writes a model as a diffusers folder that every version of diffusers and transformers can read."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from atelier.config.errors import AtelierError
from atelier.models.assets import ASSETS, PAD_TOKENS
from atelier.models.checkpoints.writing import check_space, entry, write_safetensors
from atelier.models.family import Parts
from atelier.models.sampling.samplers import NOISE_SCHEDULE
from atelier.models.views.from_ldm import Weights

_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
}


def write_folder(
    path: Path, weights: Weights, parts: Parts, base: Path | None, dtype: torch.dtype | None = None
) -> None:
    """Writes all modules, tokenizers and the scheduler's configuration under a temporary name, then renames the folder.

    An existing folder at `path` is replaced only when the new one is complete. Raises `AtelierError`.
    """
    entries = {
        part: [entry(name, tensor, dtype) for name, tensor in tensors.items()]
        for part, tensors in weights.tensors.items()
    }
    check_space(path, sum(item.size for items in entries.values() for item in items))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent))
    try:
        index: dict[str, Any] = {"_class_name": _pipeline(parts)}
        for part, items in entries.items():
            library, name = _CLASSES[part]
            stem = "model" if library == "transformers" else "diffusion_pytorch_model"
            config = {("architectures" if library == "transformers" else "_class_name"): name, **weights.configs[part]}
            if library == "transformers":
                config.update(architectures=[name], model_type="clip_text_model")
            _write_json(temporary / part / "config.json", config)
            write_safetensors(temporary / part / f"{stem}.safetensors", items, {"format": "pt"})
            index[part] = [library, name]
        for number in range(len(parts.family.text_encoder_prefixes)):
            folder = "tokenizer" if number == 0 else "tokenizer_2"
            _copy_tokenizer(temporary / folder, parts.family.name, number, base)
            index[folder] = ["transformers", "CLIPTokenizer"]
        _write_json(temporary / "scheduler" / "scheduler_config.json", _scheduler(parts))
        index["scheduler"] = ["diffusers", "DDIMScheduler"]
        if parts.family.name == "sdxl":
            index["force_zeros_for_empty_prompt"] = False
        else:
            index.update(safety_checker=[None, None], feature_extractor=[None, None], requires_safety_checker=False)
        _write_json(temporary / "model_index.json", index)
        temporary.chmod(0o755)
        _put_in_place(temporary, path)
    except OSError as error:
        raise AtelierError(
            f"{path} could not be written: {error.strerror or error}. Files saved before are unchanged."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    old = path.with_name(f".{path.name[:80]}.old")
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _pipeline(parts: Parts) -> str:
    return "StableDiffusionXLPipeline" if parts.family.name == "sdxl" else "StableDiffusionPipeline"


def _scheduler(parts: Parts) -> dict[str, Any]:
    config = {
        "_class_name": "DDIMScheduler",
        **NOISE_SCHEDULE,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": parts.prediction_type,
    }
    if parts.zero_terminal_snr:
        config.update(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    return config


def _copy_tokenizer(folder: Path, family: str, number: int, base: Path | None) -> None:
    own = None if base is None else base / folder.name
    if own is not None and (own / "vocab.json").is_file():
        shutil.copytree(own, folder)
        return
    shutil.copytree(ASSETS / "tokenizer" / "clip", folder)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        config = json.loads((folder / name).read_text(encoding="utf-8"))
        _write_json(folder / name, {**config, "pad_token": PAD_TOKENS[family][number]})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
