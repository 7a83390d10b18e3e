"""Makes the metadata of a LoRA file: kohya's ss_* keys and Stability's modelspec, all values as text."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.adapters.config import NetworkConfig, parse_network_args
from atelier.config.datasets import Dataset, DatasetConfig
from atelier.config.settings.idle import OF_FLOWS
from atelier.config.settings.schema import Settings, parse_resolution
from atelier.models.family import Family

IMPLEMENTATIONS = {"sdxl": "https://github.com/Stability-AI/generative-models"}
"""modelspec.implementation of a family's LoRA; diffusers for the others."""
MINIMUM = ("ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha",
           "ss_network_args")  # fmt: skip
"""The ss_* keys that a WebUI needs to load the file. With no_metadata only these are written."""

_SAME_NAME = (
    "output_name", "learning_rate", "unet_lr", "gradient_checkpointing", "gradient_accumulation_steps",
    "lr_warmup_steps", "lr_scheduler", "network_module", "network_dim", "network_alpha", "network_dropout",
    "mixed_precision", "full_fp16", "clip_skip", "max_token_length", "cache_latents", "noise_offset",
    "multires_noise_iterations", "multires_noise_discount", "adaptive_noise_scale", "zero_terminal_snr",
    "training_comment", "max_grad_norm", "caption_dropout_rate", "caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate", "face_crop_aug_range", "prior_loss_weight", "min_snr_gamma", "scale_weight_norms",
    "ip_noise_gamma", "noise_offset_random_strength", "ip_noise_gamma_random_strength", "loss_type",
    "huber_schedule", "huber_scale", "huber_c", "fp8_base", "validation_seed", "validation_split",
    "max_validation_steps", "validate_every_n_epochs", "validate_every_n_steps", "resize_interpolation",
    "color_aug", "flip_aug", "random_crop", "shuffle_caption", "enable_bucket", "bucket_no_upscale",
    "min_bucket_reso", "max_bucket_reso", "keep_tokens",
)  # fmt: skip
"""Settings that kohya stores under their name with ss_ in front."""


@dataclass(frozen=True)
class DatasetFacts:
    """Facts of one dataset. Counts include repeats unless stated otherwise.

    `pictures`: number of pictures per subset, without repeats. `buckets`: ((width, height), number of pictures).
    `tag_frequency`: for each folder name, how often each tag occurs in its captions.
    """

    train_images: int
    reg_images: int = 0
    pictures: tuple[int, ...] = ()
    buckets: tuple[tuple[tuple[int, int], int], ...] = ()
    mean_aspect_error: float = 0.0
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run that are known before its first step. Times are seconds since 1970."""

    family: Family
    prediction_type: str
    session_id: str
    seed: int
    started_at: float
    max_train_steps: int
    num_epochs: int
    batches_per_epoch: int
    datasets: tuple[DatasetFacts, ...] = ()
    base_name: str | None = None
    base_hash: str | None = None
    base_new_hash: str | None = None
    optimizer: str | None = None
    """The optimizer's class with its arguments; None uses the name in the settings."""
    precision: str | None = None
    """The precision that is really used when the settings say "auto"."""
    validation_images: int = 0


def lora_metadata(
    settings: Settings, datasets: DatasetConfig, run: RunFacts, step: int, epoch: int, finished_at: float
) -> dict[str, str]:
    """All metadata of a file saved after `step` steps in `epoch` (counted from 1)."""
    values = _training(settings, run)
    values |= _datasets(datasets.datasets, run)
    values |= {
        "ss_training_finished_at": finished_at,
        "ss_steps": step,
        "ss_epoch": epoch,
    }
    if settings.no_metadata:
        values = {key: values[key] for key in MINIMUM if key in values}
    values |= modelspec(settings, run, finished_at)
    return {key: str(value) for key, value in values.items()}


def _training(settings: Settings, run: RunFacts) -> dict[str, Any]:
    values: dict[str, Any] = {f"ss_{key}": getattr(settings, key, None) for key in _SAME_NAME}
    rates = settings.text_encoder_lr
    values |= {
        "ss_session_id": run.session_id,
        "ss_training_started_at": run.started_at,
        "ss_text_encoder_lr": (rates[0] if len(rates) == 1 else list(rates)) if rates else None,
        "ss_network_module": settings.network_module or "networks.lora",
        "ss_mixed_precision": run.precision or settings.mixed_precision,
        "ss_num_train_images": sum(facts.train_images for facts in run.datasets),
        "ss_num_reg_images": sum(facts.reg_images for facts in run.datasets),
        "ss_num_validation_images": run.validation_images,
        "ss_num_batches_per_epoch": run.batches_per_epoch,
        "ss_num_epochs": run.num_epochs,
        "ss_max_train_steps": run.max_train_steps,
        "ss_seed": run.seed,
        "ss_v2": run.family.name == "sd2",
        "ss_base_model_version": run.family.base_model_version,
        "ss_debiased_estimation": settings.debiased_estimation_loss,
        "ss_optimizer": run.optimizer or _with_arguments(settings.optimizer_type, settings.optimizer_args),
        "ss_sd_model_name": run.base_name,
    }
    if run.family.flow is not None:
        values |= {f"ss_{key}": getattr(settings, key) for key in OF_FLOWS}
    arguments: dict[str, Any] = dict(parse_network_args(settings.network_args))
    for key in ("conv_dim", "conv_alpha"):
        if getattr(settings, key) is not None:
            arguments.setdefault(key, str(getattr(settings, key)))
    if arguments:
        values["ss_network_args"] = json.dumps(arguments)
    if run.base_hash:
        values["ss_sd_model_hash"] = run.base_hash
    if run.base_new_hash:
        values["ss_new_sd_model_hash"] = run.base_new_hash
    return values


def _datasets(datasets: list[Dataset], run: RunFacts) -> dict[str, Any]:
    described: list[dict[str, Any]] = []
    folders: dict[str, Any] = {}
    reg_folders: dict[str, Any] = {}
    frequency: dict[str, Mapping[str, int]] = {}
    buckets: dict[str, Any] = {}
    for dataset, facts in zip(datasets, run.datasets):
        subsets = []
        for index, subset in enumerate(dataset.subsets):
            count = facts.pictures[index] if index < len(facts.pictures) else 0
            subsets.append({
                "img_count": count, "num_repeats": subset.num_repeats, "color_aug": subset.color_aug,
                "flip_aug": subset.flip_aug, "random_crop": subset.random_crop,
                "shuffle_caption": subset.shuffle_caption, "keep_tokens": subset.keep_tokens,
                "keep_tokens_separator": subset.keep_tokens_separator,
                "secondary_separator": subset.secondary_separator, "enable_wildcard": subset.enable_wildcard,
                "caption_prefix": subset.caption_prefix, "caption_suffix": subset.caption_suffix,
                "image_dir": Path(subset.image_dir).name, "class_tokens": subset.class_tokens,
                "is_reg": subset.is_reg,
            })  # fmt: skip
            place = reg_folders if subset.is_reg else folders
            place[_free(place, Path(subset.image_dir).name)] = {"n_repeats": subset.num_repeats, "img_count": count}
        bucket_info = {
            "buckets": {
                str(index): {"resolution": list(size), "count": count}
                for index, (size, count) in enumerate(facts.buckets)
            },
            "mean_img_ar_error": facts.mean_aspect_error,
        }
        described.append({
            "is_dreambooth": True, "batch_size_per_device": dataset.batch_size,
            "num_train_images": facts.train_images, "num_reg_images": facts.reg_images,
            "resolution": list(dataset.resolution), "enable_bucket": dataset.enable_bucket,
            "min_bucket_reso": dataset.min_bucket_reso, "max_bucket_reso": dataset.max_bucket_reso,
            "tag_frequency": {name: dict(tags) for name, tags in facts.tag_frequency.items()},
            "bucket_info": bucket_info, "subsets": subsets,
        })  # fmt: skip
        for name, tags in facts.tag_frequency.items():
            frequency.setdefault(name, dict(tags))
        buckets = buckets or bucket_info
    first = datasets[0] if datasets else Dataset()
    return {
        "ss_datasets": json.dumps(described),
        "ss_dataset_dirs": json.dumps(folders),
        "ss_reg_dataset_dirs": json.dumps(reg_folders),
        "ss_tag_frequency": json.dumps(frequency),
        "ss_bucket_info": json.dumps(buckets),
        "ss_resolution": str(tuple(first.resolution)),
        "ss_batch_size_per_device": first.batch_size,
        "ss_total_batch_size": first.batch_size,
    }


def modelspec(settings: Settings, run: RunFacts, finished_at: float) -> dict[str, str]:
    """The modelspec.* keys of a LoRA (https://github.com/Stability-AI/ModelSpec, version 1.0.1)."""
    width, height = parse_resolution(settings.resolution)
    date = datetime.datetime.fromtimestamp(int(finished_at)).isoformat()
    values = {
        "sai_model_spec": "1.0.1",
        "architecture": run.family.architecture(run.prediction_type) + "/lora",
        "implementation": IMPLEMENTATIONS.get(run.family.name, "diffusers"),
        "title": settings.metadata_title or settings.output_name,
        "resolution": f"{width}x{height}",
        "date": date,
        "prediction_type": "v" if run.prediction_type == "v_prediction" else "epsilon",
        "author": settings.metadata_author,
        "description": settings.metadata_description,
        "license": settings.metadata_license,
        "tags": settings.metadata_tags,
        "usage_hint": settings.metadata_usage_hint,
        "trigger_phrase": settings.metadata_trigger_phrase or settings.trigger.strip(),
    }
    for key in ("merged_from", "preprocessor", "is_negative_embedding", "thumbnail"):
        values[key] = getattr(settings, f"metadata_{key}", None)
    if settings.min_timestep is not None or settings.max_timestep is not None:
        most = 1000 if settings.max_timestep is None else settings.max_timestep
        values["timestep_range"] = f"{settings.min_timestep or 0},{most}"
    if settings.clip_skip is not None:
        values["encoder_layer"] = str(settings.clip_skip)
    return {f"modelspec.{key}": str(value) for key, value in values.items() if value}


def network_facts(metadata: Mapping[str, str]) -> NetworkConfig | None:
    """The network configuration in a file's metadata; None when there is none."""
    try:
        arguments = json.loads(metadata.get("ss_network_args") or "{}")
        return NetworkConfig(
            dim=int(float(metadata["ss_network_dim"])),
            alpha=float(metadata["ss_network_alpha"]),
            module=metadata.get("ss_network_module", "networks.lora"),
            arguments={str(key): str(value) for key, value in arguments.items()},
        )
    except (KeyError, ValueError, AttributeError):
        return None


def _with_arguments(name: str, arguments: list[str]) -> str:
    return f"{name}({','.join(arguments)})" if arguments else name


def _free(taken: Mapping[str, Any], name: str) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
