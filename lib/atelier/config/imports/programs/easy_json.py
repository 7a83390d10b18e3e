"""Configurations (JSON) of LoRA_Easy_Training_Scripts before it had an interface of its own and saved TOML.

Source: https://github.com/derrian-distro/LoRA_Easy_Training_Scripts, the class ArgStore of lora_train_popup.py in 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.imports.programs.plain_keys import ELSEWHERE, Convert, Plain, number_above_zero, size

MARKS = (("net_dim", "scheduler"), ("img_folder", "output_folder"), ("change_output_name",))
_PROGRAM = "LoRA_Easy_Training_Scripts"
_SWITCHES = {"use_8bit_adam": "AdamW8bit", "use_lion": "Lion"}
"""Older files name the optimizer by a switch."""


def translate(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
    """The configuration's settings, always of a LoRA."""
    found = Plain()
    found.take(data, {**_NAMES, **dict.fromkeys(_SWITCHES, ELSEWHERE)}, _PROGRAM)
    found.leave(data, [key for key in data if key in _SAYS_NOTHING], "It changes nothing of what is learnt.")
    arguments = data.get("network_args") or data.get("lyco_args")
    if not data.get("network_module"):
        algo = isinstance(arguments, Mapping) and "algo" in arguments
        found.add("network_module", "lycoris.kohya" if algo else "networks.lora")
    for key, optimizer in _SWITCHES.items():
        if data.get(key) is True and not data.get("optimizer_type"):
            found.add("optimizer_type", optimizer)
    return found


def _same(*keys: str) -> dict[str, tuple[str, Convert | None]]:
    return {key: (key, None) for key in keys}


_SAYS_NOTHING = (
    "num_workers", "persistent_workers", "xformers", "log_dir", "log_prefix", "log_with", "log_tracker_name",
    "wandb_api_key", "tag_occurrence_txt_file", "sort_tag_occurrence_alphabetically", "save_json_folder",
    "save_json_only", "save_json_name", "load_json_path", "json_load_skip_list", "multi_run_folder", "v2",
    "v_parameterization", "save_state", "cache_latents_to_disk", "mem_eff_attn", "lowram",
)  # fmt: skip
_NAMES: dict[str, tuple[str, Convert | None]] = {
    **_same(
        "pretrained_model_name_or_path",
        "learning_rate",
        "text_encoder_lr",
        "unet_lr",
        "save_every_n_epochs",
        "save_n_epoch_ratio",
        "save_last_n_epochs",
        "keep_tokens",
        "training_comment",
        "clip_skip",
        "prior_loss_weight",
        "gradient_checkpointing",
        "mixed_precision",
        "save_precision",
        "caption_extension",
        "cache_latents",
        "color_aug",
        "flip_aug",
        "random_crop",
        "vae",
        "optimizer_type",
        "optimizer_args",
        "network_args",
        "network_module",
        "noise_offset",
        "min_snr_gamma",
        "weighted_captions",
        "caption_dropout_rate",
        "caption_dropout_every_n_epochs",
        "caption_tag_dropout_rate",
        "sample_prompts",
        "sample_every_n_epochs",
        "sample_every_n_steps",
        "sample_sampler",
        "bucket_no_upscale",
        "bucket_reso_steps",
        "max_grad_norm",
        "face_crop_aug_range",
        "token_warmup_min",
        "token_warmup_step",
    ),
    "base_model": ("pretrained_model_name_or_path", None),
    "locon_dim": ("conv_dim", number_above_zero),
    "locon_alpha": ("conv_alpha", number_above_zero),
    "img_folder": ("train_data_dir", None),
    "reg_img_folder": ("reg_data_dir", None),
    "output_folder": ("output_dir", None),
    "change_output_name": ("output_name", None),
    "net_dim": ("network_dim", None),
    "alpha": ("network_alpha", None),
    "scheduler": ("lr_scheduler", None),
    "cosine_restarts": ("lr_scheduler_num_cycles", number_above_zero),
    "scheduler_power": ("lr_scheduler_power", number_above_zero),
    "warmup_lr_ratio": ("lr_warmup_steps", number_above_zero),
    "batch_size": ("train_batch_size", None),
    "num_epochs": ("max_train_epochs", None),
    "max_steps": ("max_train_steps", number_above_zero),
    "shuffle_captions": ("shuffle_caption", None),
    "train_resolution": ("resolution", size),
    "min_bucket_resolution": ("min_bucket_reso", None),
    "max_bucket_resolution": ("max_bucket_reso", None),
    "buckets": ("enable_bucket", None),
    "lora_model_for_resume": ("network_weights", None),
    "unet_only": ("network_train_unet_only", None),
    "text_only": ("network_train_text_encoder_only", None),
    "test_seed": ("seed", None),
    "gradient_acc_steps": ("gradient_accumulation_steps", number_above_zero),
    "save_as": ("save_model_as", None),
    "max_clip_token_length": ("max_token_length", None),
    "lyco_args": ("network_args", None),
    "no_meta": ("no_metadata", None),
}
