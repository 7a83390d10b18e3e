"""Presets of the extension traintrain (JSON), for its mode LoRA.

Source: https://github.com/hako-mikan/sd-webui-traintrain, the fields of its tab.
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
    Convert,
    Plain,
    by_name,
    not_negative,
    number_above_zero,
)


def translate(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
    """The preset's settings. Raises `AtelierError` for a mode that trains from prompts or pairs."""
    mode = str(data.get("mode") or "LoRA")
    if mode.lower() != "lora":
        raise AtelierError(f"{path.name} is a preset of traintrain for {mode}; only its mode LoRA can be read.")
    found = Plain()
    names = {key: _NAMES[_bare(key)] for key in data if _bare(key) in _NAMES}
    found.take(data, names, "traintrain")
    found.leave(data, [key for key in data if _bare(key) in _SAYS_NOTHING], "It changes nothing of what is learnt.")
    data = {_bare(key): value for key, value in data.items()}
    if str(data.get("network_type") or "").lower() == "loha":
        found.add("network_module", "lycoris.kohya")
        found.add("network_args", ["algo=loha"])
    else:
        found.add("network_module", "networks.lora")
    if str(data.get("network_type") or "").lower() == "c3lier":
        for key, kind in (("conv_dim", "rank"), ("conv_alpha", "alpha")):
            own = number_above_zero(data.get(f"network_conv_{kind}"))
            found.add(key, own if own is not None else data.get(f"network_{kind}"))
    if str(data.get("train_lr_scheduler") or "").lower() == "constant":
        found.add("lr_warmup_steps", 0)  # which has none there either, whatever is written
    blocks = data.get("network_blocks")
    if isinstance(blocks, list):
        found.add("network_train_unet_only", True if "BASE" not in blocks else None)
        left_out = [block for block in _BLOCKS if block not in blocks]
        if left_out:
            found.notes.append(f"traintrain leaves out the blocks {', '.join(left_out)}; every block is trained here.")
    return found


def _bare(key: str) -> str:
    """Some keys have an explanation in brackets behind them: image_size(height, width)."""
    return key.partition("(")[0].strip()


def _lines(value: Any) -> list[str] | None:
    """NAME=VALUE in lines, or with semicolons between them."""
    parts = [part.replace(" ", "") for part in str(value or "").replace(";", "\n").splitlines()]
    return [part for part in parts if "=" in part] or None


def _size(value: Any) -> str:
    """traintrain writes height before width."""
    sides = [side.strip() for side in str(value).lower().replace("x", ",").split(",") if side.strip()]
    return ",".join(reversed(sides))


_BLOCKS = ["BASE", *(f"IN{n:02}" for n in range(12)), "M00", *(f"OUT{n:02}" for n in range(12))]
_SAYS_NOTHING = (
    "train_lora_precision", "train_VAE_precision", "save_overwrite", "save_as_json", "logging_verbose",
    "logging_save_csv", "logging_use_wandb", "logging_use_tensorboard", "logging_dir", "original prompt",
    "target prompt", "model_v_pred",
)  # fmt: skip
_NAMES: dict[str, tuple[str, Convert | None]] = {
    "mode": ELSEWHERE,
    "model": ("pretrained_model_name_or_path", None),
    "vae": ("vae", lambda value: None if str(value).lower() in ("none", "automatic", "") else value),
    "network_type": ELSEWHERE,
    "network_blocks": ELSEWHERE,
    "network_conv_rank": ELSEWHERE,
    "network_conv_alpha": ELSEWHERE,
    "network_resume": ("network_weights", None),
    "image_mirroring": ("flip_aug", None),
    "image_disable_upscale": ("bucket_no_upscale", None),
    "use_gradient_checkpointing": ("gradient_checkpointing", None),
    "save_precision": ("save_precision", by_name({"fp16": "fp16", "bf16": "bf16", "fp32": "float"})),
    "network_rank": ("network_dim", None),
    "network_alpha": ("network_alpha", None),
    "lora_data_directory": ("train_data_dir", None),
    "lora_trigger_word": ("trigger", None),
    "image_size": ("resolution", _size),
    "image_use_filename_as_tag": ("caption_extension", lambda value: None),
    "train_iterations": ("max_train_steps", None),
    "train_batch_size": ("train_batch_size", None),
    "train_learning_rate": ("learning_rate", None),
    "train_optimizer": ("optimizer_type", OPTIMIZERS),
    "train_optimizer_settings": ("optimizer_args", _lines),
    "train_lr_scheduler_settings": ("lr_scheduler_args", _lines),
    "train_lr_warmup_steps": ("lr_warmup_steps", number_above_zero),
    "train_textencoder_learning_rate": ("text_encoder_lr", number_above_zero),
    "train_lr_scheduler": ("lr_scheduler", SCHEDULES),
    "train_lr_scheduler_num_cycles": ("lr_scheduler_num_cycles", number_above_zero),
    "train_lr_scheduler_power": ("lr_scheduler_power", number_above_zero),
    "train_seed": ("seed", not_negative),
    "train_model_precision": ("mixed_precision", PRECISION),
    "train_min_timesteps": ("min_timestep", number_above_zero),
    "train_max_timesteps": ("max_timestep", number_above_zero),
    "train_snr_gamma": ("min_snr_gamma", number_above_zero),
    "gradient_accumulation_steps": ("gradient_accumulation_steps", None),
    "save_per_steps": ("save_every_n_steps", number_above_zero),
    "save_lora_name": ("output_name", None),
}
