"""Configurations and presets of OneTrainer (JSON).

Source: https://github.com/Nerogar/OneTrainer, modules/util/config/TrainConfig.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.imports.programs.plain_keys import (
    ELSEWHERE,
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
    for name, read in _TABLES.items():
        found.rest(data, name, read, "OneTrainer")
    idle = [key for key in data if key.startswith(_SAYS_NOTHING) or (key in _USUAL and data[key] == _USUAL[key])]
    found.leave(data, idle, "It changes nothing of what is learnt.")
    _defaults(found, data, _METHODS[method])
    _loss(found, data)
    if _METHODS[method]:
        found.add("train_whole_model", True)
    else:
        found.add("network_module", _ADAPTERS[adapter][0])
        found.add("network_args", _ADAPTERS[adapter][1] or None)
    _optimizer(found, data.get("optimizer"))
    _parts(found, data, _METHODS[method])
    _pictures(found, data)
    return found


def _defaults(found: Plain, data: Mapping[str, Any], whole: bool) -> None:
    """The program's presets hold only what differs from its defaults, which are not those of sd-scripts."""
    left_out = [key for key in _DEFAULTS if key not in data and not (whole and key.startswith("lora_"))]
    for key in left_out:
        found.add(_NAMES[key][0], _DEFAULTS[key])
    schedule = str(data.get("learning_rate_scheduler") or "CONSTANT").upper()
    if schedule == "CONSTANT" and _warmup(data.get("learning_rate_warmup_steps", 200)) is not None:
        found.add("lr_scheduler", "constant_with_warmup")  # any schedule of OneTrainer has the warm-up
    if left_out:
        told = ", ".join(f"{key} {_DEFAULTS[key]}" for key in left_out)
        found.notes.append(f"What the file leaves out has OneTrainer's defaults: {told}.")


def _loss(found: Plain, data: Mapping[str, Any]) -> None:
    weights = str(data.get("loss_weight_fn") or "CONSTANT").upper()
    if weights == "MIN_SNR_GAMMA":
        found.add("min_snr_gamma", data.get("loss_weight_strength", 5.0))
    elif weights == "DEBIASED_ESTIMATION":
        found.add("debiased_estimation_loss", True)
    elif weights != "CONSTANT":
        found.notes.append(f"loss_weight_fn {weights} has no counterpart here; every step counts the same.")
    for key, setting in (("min_noising_strength", "min_timestep"), ("max_noising_strength", "max_timestep")):
        part = data.get(key)
        if isinstance(part, (int, float)) and 0 < part < 1:
            found.add(setting, round(part * _TIMESTEPS))


def _optimizer(found: Plain, optimizer: Any) -> None:
    """{"optimizer": "ADAMW", "weight_decay": 0.01, "beta1": 0.9, …}; what is null has the optimizer's default."""
    if not isinstance(optimizer, Mapping):
        return
    name = OPTIMIZERS(optimizer.get("optimizer") or "ADAMW")
    found.add("optimizer_type", name)
    arguments = {key: optimizer.get(key) for key in ("weight_decay", "eps")}
    arguments |= {key: optimizer.get(key, default) for key, default in _ARGUMENTS.get(str(name), {}).items()}
    if str(name) == "AdaFactor":
        arguments.pop("eps")  # two numbers there, eps and eps2
    pairs = [f"{key}={value}" for key, value in arguments.items() if value is not None]
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
        second = data.get("text_encoder_2")
        off = [part.get("train") is False for part in (text, second) if isinstance(part, Mapping)]
        if whole:
            found.add("train_text_encoder", text.get("train"))
        elif all(off):
            found.add("network_train_unet_only", True)
        elif any(off):
            found.notes.append("OneTrainer trains one of the two text encoders; both are trained here.")


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


_TIMESTEPS = 1000
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdaFactor": {"relative_step": False, "scale_parameter": False, "warmup_init": False},
    "Prodigy": {"d_coef": None, "d0": None, "growth_rate": None, "decouple": None, "safeguard_warmup": None,
                "use_bias_correction": None},
    "SGDNesterov": {"momentum": None},
}  # fmt: skip
"""Arguments of an optimizer, with the program's default where sd-scripts has another one."""
_DEFAULTS = {"lora_rank": 16, "lora_alpha": 1.0, "learning_rate": 3e-6, "learning_rate_warmup_steps": 200,
             "epochs": 100, "resolution": "512"}  # fmt: skip
_PART = ("train", "learning_rate", "weight_dtype", "model_name", "include", "gradient_checkpointing", "guidance_scale",
         "train_embedding")  # fmt: skip
_TABLES = {
    "optimizer": ("__version", "optimizer", "weight_decay", "eps", "beta1", "beta2", "stochastic_rounding",
                  *(key for arguments in _ARGUMENTS.values() for key in arguments),
                  "foreach", "weight_decay_by_lr", "split_groups", "split_groups_mean", "factored", "factored_fp32",
                  "use_stableadamw", "d_limiter", "use_schedulefree", "rms_rescaling", "fused", "fused_back_pass"),
    "unet": _PART, "text_encoder": _PART, "text_encoder_2": _PART, "vae": _PART,
}  # fmt: skip
"""What is read of each table, and what changes nothing of what is learnt or is on by default."""
_SAYS_NOTHING = (
    "__version", "debug_", "workspace_dir", "cache_dir", "huggingface_", "offline_mode", "tensorboard", "validat",
    "continue_last_backup", "prevent_overwrites", "include_train_config", "multi_gpu", "device_indexes",
    "gradient_reduce", "fused_gradient", "async_", "output_model_format", "compile", "latent_caching",
    "clear_cache_", "dataloader_threads", "train_device", "temp_device", "fallback_train_dtype", "enable_autocast",
    "only_cache", "frames", "attention_mechanism", "sample", "samples", "non_ema_sampling", "backup_", "rolling_backup",
    "save_skip_first", "save_filename_prefix", "secrets", "cloud", "optimizer_defaults", "embedding",
    "additional_embeddings", "prior", "transformer", "unconditional_transformer", "text_encoder_3", "text_encoder_4",
    "effnet_encoder", "decoder", "quantization", "ema_", "huber_delta", "vb_loss_strength", "lokr_", "oft_",
    "lora_decompose_",  "concept_file_name", "bundle_additional", "lora_weight_dtype",
    "text_encoder_sequence_length", "text_encoder_2_sequence_length",
)  # fmt: skip
"""How the keys begin that say nothing of how to train these models."""
_USUAL = {"mse_strength": 1.0, "timestep_distribution": "UNIFORM", "timestep_shift": 1.0, "layer_filter_preset": "full",
          "unmasked_probability": 0.1, "unmasked_weight": 0.1}  # fmt: skip
"""What these keys have when nobody changed them, which is what is done here."""
_READ_ELSEWHERE = ("training_method", "model_type", "peft_type", "optimizer", "unet", "text_encoder", "text_encoder_2",
                   "vae", "concepts", "loss_weight_fn", "loss_weight_strength", "min_noising_strength",
                   "max_noising_strength")  # fmt: skip
_NAMES: dict[str, Any] = {
    **dict.fromkeys(_READ_ELSEWHERE, ELSEWHERE),
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
    "aspect_ratio_bucketing": ("enable_bucket", None),
    "masked_training": ("masked_loss", None),
    "offset_noise_weight": ("noise_offset", number_above_zero),
    "perturbation_noise_weight": ("ip_noise_gamma", number_above_zero),
    "rescale_noise_scheduler_to_zero_terminal_snr": ("zero_terminal_snr", None),
}
