"""Configurations and presets of OneTrainer (JSON).

Source: https://github.com/Nerogar/OneTrainer, modules/util/config/TrainConfig.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.imports.plain_keys import (
    OPTIMIZERS,
    PRECISION,
    SCHEDULES,
    Plain,
    by_name,
    not_negative,
    number_above_zero,
    size,
)

MODELS = ("STABLE_DIFFUSION_15", "STABLE_DIFFUSION_20_BASE", "STABLE_DIFFUSION_20", "STABLE_DIFFUSION_21",
          "STABLE_DIFFUSION_21_BASE", "STABLE_DIFFUSION_XL_10_BASE")  # fmt: skip
_METHODS = {"LORA": False, "FINE_TUNE": True}
_ADAPTERS = {"LORA": ("networks.lora", []), "LOHA": ("lycoris.kohya", ["algo=loha"])}


def translate(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
    """The configuration's settings. Raises `AtelierError` for a model or method that cannot be trained here."""
    model, method = str(data.get("model_type") or MODELS[0]), str(data.get("training_method") or "LORA")
    if model not in MODELS:
        raise AtelierError(
            f"{path.name} is of OneTrainer and trains {model}; only Stable Diffusion 1, 2 and XL can be trained."
        )
    adapter = str(data.get("peft_type") or "LORA")
    if method not in _METHODS or adapter not in _ADAPTERS:
        what = method if method not in _METHODS else adapter
        raise AtelierError(f"{path.name} is of OneTrainer, and its {what} has no counterpart here. Train a LoRA.")
    found = Plain()
    found.take(data, _NAMES, "OneTrainer")
    if _METHODS[method]:
        found.add("train_whole_model", True)
    else:
        found.add("network_module", _ADAPTERS[adapter][0])
        found.add("network_args", _ADAPTERS[adapter][1] or None)
    _optimizer(found, data.get("optimizer"))
    _parts(found, data, _METHODS[method])
    _pictures(found, data)
    return found


def _optimizer(found: Plain, optimizer: Any) -> None:
    """{"optimizer": "ADAMW", "weight_decay": 0.01, "beta1": 0.9, …}; what is null has the optimizer's default."""
    if not isinstance(optimizer, Mapping):
        return
    name = OPTIMIZERS(optimizer.get("optimizer") or "ADAMW")
    found.add("optimizer_type", name)
    pairs = [f"{key}={optimizer[key]}" for key in ("weight_decay", "eps", "d_coef") if optimizer.get(key) is not None]
    betas = [optimizer.get(key) for key in ("beta1", "beta2")]
    if None not in betas:
        pairs.append(f"betas={betas[0]},{betas[1]}")
    found.add("optimizer_args", pairs or None)


def _parts(found: Plain, data: Mapping[str, Any], whole: bool) -> None:
    unet, text = data.get("unet"), data.get("text_encoder")
    if isinstance(unet, Mapping):
        found.add("learning_rate" if whole else "unet_lr", unet.get("learning_rate"))
        if unet.get("train") is False and not whole:
            found.add("network_train_text_encoder_only", True)
    if isinstance(text, Mapping):
        found.add("learning_rate_te" if whole else "text_encoder_lr", text.get("learning_rate"))
        if whole:
            found.add("train_text_encoder", text.get("train"))
        elif text.get("train") is False:
            found.add("network_train_unet_only", True)


def _pictures(found: Plain, data: Mapping[str, Any]) -> None:
    concepts = data.get("concepts")
    paths = [str(item["path"]) for item in concepts if isinstance(item, Mapping) and item.get("path")] \
        if isinstance(concepts, list) else []  # fmt: skip
    if len(paths) == 1:
        found.add("train_data_dir", paths[0])
    else:
        found.notes.append("OneTrainer keeps the folders of its concepts elsewhere. Choose your folder of pictures.")


def _warmup(value: Any) -> Any:
    """Steps above 1, else a part of the run."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return (int(number) if number > 1 else number) if number > 0 else None


def _skipped_layers(value: Any) -> int | None:
    """The layers that are left out at the end; clip_skip 1 leaves out none."""
    return int(value) + 1 if isinstance(value, int) and value > 0 else None


_READ_ELSEWHERE = ("training_method", "model_type", "peft_type", "optimizer", "unet", "text_encoder", "concepts",
                   "__version")  # fmt: skip
_NAMES: dict[str, Any] = {
    **{key: ("network_module", lambda value: None) for key in _READ_ELSEWHERE},
    "base_model_name": ("pretrained_model_name_or_path", None),
    "output_model_destination": ("output_name", lambda value: Path(str(value).replace("\\", "/")).stem or None),
    "lora_rank": ("network_dim", None),
    "lora_alpha": ("network_alpha", None),
    "lora_model_name": ("network_weights", None),
    "dropout_probability": ("network_dropout", number_above_zero),
    "learning_rate": ("learning_rate", None),
    "learning_rate_scheduler": ("lr_scheduler", SCHEDULES),
    "learning_rate_warmup_steps": ("lr_warmup_steps", _warmup),
    "learning_rate_cycles": ("lr_scheduler_num_cycles", number_above_zero),
    "epochs": ("max_train_epochs", None),
    "batch_size": ("train_batch_size", None),
    "gradient_accumulation_steps": ("gradient_accumulation_steps", None),
    "clip_grad_norm": ("max_grad_norm", None),
    "resolution": ("resolution", size),
    "seed": ("seed", not_negative),
    "train_dtype": ("mixed_precision", PRECISION),
    "output_dtype": (
        "save_precision",
        by_name({"FLOAT_16": "fp16", "BFLOAT_16": "bf16", "FLOAT_32": "float"}),
    ),
    "text_encoder_layer_skip": ("clip_skip", _skipped_layers),
    "masked_training": ("masked_loss", None),
}
