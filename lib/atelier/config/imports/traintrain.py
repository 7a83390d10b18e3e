"""Presets of the extension traintrain (JSON), for its mode LoRA.

Source: https://github.com/hako-mikan/sd-webui-traintrain, the fields of its tab.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.imports.plain_keys import OPTIMIZERS, PRECISION, SCHEDULES, Plain, not_negative, number_above_zero


def translate(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
    """The preset's settings. Raises `AtelierError` for a mode that trains from prompts or pairs."""
    mode = str(data.get("mode") or "LoRA")
    if mode.lower() != "lora":
        raise AtelierError(f"{path.name} is a preset of traintrain for {mode}; only its mode LoRA can be read.")
    found = Plain()
    found.take(data, _NAMES, "traintrain")
    if str(data.get("network_type") or "").lower() == "loha":
        found.add("network_module", "lycoris.kohya")
        found.add("network_args", ["algo=loha"])
    else:
        found.add("network_module", "networks.lora")
    if str(data.get("network_type") or "").lower() == "c3lier":
        rank, alpha = data.get("network_rank"), data.get("network_alpha")
        found.add("conv_dim", rank)
        found.add("conv_alpha", alpha)
    return found


def _size(value: Any) -> str:
    """traintrain writes height before width."""
    sides = [side.strip() for side in str(value).lower().replace("x", ",").split(",") if side.strip()]
    return ",".join(reversed(sides))


_NAMES = {
    "mode": ("network_module", lambda value: None),
    "model": ("pretrained_model_name_or_path", None),
    "vae": ("vae", lambda value: None if str(value).lower() in ("none", "automatic", "") else value),
    "network_type": ("network_module", lambda value: None),
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
    "train_optimizer_settings": ("optimizer_args", None),
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
