"""The request of a memory prediction: all that it depends on, from a loaded model, a file, or a released model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atelier.config.files.paths import expanded
from atelier.config.settings.schema import Settings
from atelier.models.assets import released_config
from atelier.models.checkpoints.folder import configs_of_folder, is_diffusers_folder, open_tensor_file
from atelier.models.checkpoints.stated import stated_config
from atelier.models.family import Parts
from atelier.models.unet.ldm_names import TEXT_PARTS
from atelier.models.views.from_ldm import TEXT_CLASSES, clip_keys, configs_of
from atelier.training.device.precision import autocast_dtype
from atelier.training.device.processes import process_count
from atelier.training.device.streaming import FP8


@dataclass(frozen=True)
class Request:
    """One request. Sizes are in pixels; dtypes have torch's names ("float16"); `configs` and `settings` are JSON.

    `autocast` None is plain float32. `micro_batches`: into how many parts a batch is split.
    """

    family: str
    configs: str
    width: int
    height: int
    batch: int
    settings: str
    trains_denoiser: bool = True
    trains_text: bool = False
    whole_model: bool = False
    base_dtype: str = "float32"
    vae_dtype: str = "float32"
    autocast: str | None = None
    device: str = "cpu"
    gradient_checkpointing: bool = False
    micro_batches: int = 1
    accumulates: bool = False
    text_and_vae_off: bool = False
    optimizer: str = "AdamW"
    can_stream: bool = False
    """True when the host can keep its UNet in CPU memory."""
    streamed: bool = False
    """True when the UNet's blocks are copied to the device when they compute."""
    fp8: bool = False
    """True when streamed blocks may be kept on the device as float8 instead."""
    scaled: bool = False
    """True for fp16, where gradients are scaled and all checked together before a step."""
    shared: bool = False
    """True when several processes add up their gradients."""
    divisible: bool = True
    """False when the noise depends on a batch as a whole."""
    captions: int = 1
    """Most captions whose prompt embeddings are cached on the device."""
    base_loras: int = 0
    """Bytes of the LoRAs that are applied to the base while another is trained."""

    @property
    def rows(self) -> int:
        """Number of pictures that are computed at once."""
        return -(-self.batch // max(1, self.micro_batches))

    @property
    def fused(self) -> bool:
        """True for fused_backward_pass: each weight's step is taken as soon as its gradient is computed."""
        asked = bool(json.loads(self.settings).get("fused_backward_pass"))
        return asked and self.micro_batches == 1 and not (self.accumulates or self.scaled or self.shared)

    @property
    def counts_workspaces(self) -> bool:
        """True where convolutions rearrange what they compute on in a workspace of their own."""
        return self.device == "cuda"


MOST_CAPTIONS = 1 << 12
"""More captions than the cache of prompt embeddings can have."""
NETWORK_KEYS = (
    "network_module", "network_dim", "network_alpha", "network_args", "network_dropout", "network_train_unet_only",
    "network_train_text_encoder_only", "clip_skip", "max_token_length", "vae_batch_size", "cache_latents",
    "optimizer_args", "max_grad_norm", "full_bf16", "fused_backward_pass",
)  # fmt: skip
"""Settings that a prediction depends on."""


def request_for(
    settings: Settings,
    family: str,
    configs: Mapping[str, Mapping[str, Any]],
    size: tuple[int, int],
    batch: int,
    precision: str,
    pictures: int = 1,
    **more: Any,
) -> Request:
    """The request of a run with these settings. `configs`: as from `views.from_ldm.configs_of`. `size`: (w, h).

    `precision` is "no", "fp16" or "bf16"; `more` are fields of `Request`.
    """
    read = {key: getattr(settings, key, None) for key in NETWORK_KEYS}
    dtype = autocast_dtype(precision)
    whole = bool(settings.train_whole_model)
    if whole:
        more["base_dtype"] = "bfloat16" if settings.full_bf16 else "float32"
    return Request(
        family=family,
        configs=json.dumps(configs, sort_keys=True),
        width=size[0],
        height=size[1],
        batch=batch,
        settings=json.dumps(read, sort_keys=True),
        whole_model=whole,
        autocast=None if dtype is None else name_of(dtype),
        gradient_checkpointing=bool(settings.gradient_checkpointing),
        scaled=precision == "fp16",
        shared=process_count() > 1,
        accumulates=settings.gradient_accumulation_steps > 1,
        optimizer=settings.optimizer_type,
        divisible=not settings.adaptive_noise_scale,
        fp8=bool(settings.fp8_base) and FP8 is not None,
        captions=_captions(settings, pictures),
        base_loras=sum(_file_size(path) for path in settings.base_weights),
        **more,
    )


def _captions(settings: Settings, pictures: int) -> int:
    """The number of captions, rounded up to a power of two so that another picture needs no new prediction."""
    if settings.shuffle_caption or settings.caption_tag_dropout_rate or settings.enable_wildcard:
        return MOST_CAPTIONS
    return min(MOST_CAPTIONS, 1 << max(0, pictures - 1).bit_length())


def _file_size(path: str | Path) -> int:
    try:
        return expanded(path).stat().st_size
    except OSError:
        return 0


def configs_of_parts(parts: Parts) -> dict[str, dict[str, Any]]:
    """The configurations of a loaded model's modules, by part."""
    configs = {"unet": _plain(parts.denoiser)}
    for name, encoder in zip(TEXT_PARTS, parts.text_encoders, strict=False):
        configs[name] = clip_keys(encoder.config.to_dict())
    if parts.vae is not None:
        configs["vae"] = _plain(parts.vae)
    return configs


def tells(path: Path) -> bool:
    """True when the shapes of a model can be read quickly: a diffusers folder, or a file with a header."""
    return is_diffusers_folder(path) or (path.is_file() and path.suffix == ".safetensors")


def configs_of_model(family: str, path: Path) -> dict[str, dict[str, Any]]:
    """The configurations of a model for which `tells` is True, from a folder's files or from a file's header."""
    from atelier.models.registry import family_named

    if path.is_dir():
        return {part: _without_notes(config) for part, config in configs_of_folder(path).items()}
    file = open_tensor_file(path)
    try:
        configs = configs_of(family_named(family), file.shapes)
        for part, changes in stated_config(file.metadata).items():
            if part in configs:
                configs[part].update(changes)
    finally:
        file.close()
    return configs


def released(family: str) -> dict[str, dict[str, Any]]:
    """The configurations of the family's released model."""
    names = ["unet", "vae", *TEXT_PARTS[: len(TEXT_CLASSES[family])]]
    return {name: released_config(family, name) for name in names}


def dtype_of(module: nn.Module | None) -> str:
    """The name of a module's precision."""
    parameter = None if module is None else next(module.parameters(), None)
    return "float32" if parameter is None else name_of(parameter.dtype)


def name_of(dtype: torch.dtype) -> str:
    """torch.float16 -> "float16"."""
    return str(dtype).removeprefix("torch.")


def _plain(module: nn.Module) -> dict[str, Any]:
    """A diffusers module's configuration."""
    config: Any = module.config
    return json.loads(json.dumps(_without_notes(dict(config)), default=str))


def _without_notes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without diffusers' notes about itself."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
