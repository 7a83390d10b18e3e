"""What each setting is seen by: two runs that differ in it differ in this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from atelier.models.checkpoints.load import load_checkpoint
from tests.support.training_fakes import Run


@dataclass
class Seen:
    """What a run left to be looked at."""

    run: Run
    encoded: Counter[int]
    """How many pictures each call of the VAE encoded -> calls."""
    checkpointed: int
    """How often a part of a forward pass was computed again."""


See = Callable[[Seen], Any]


def weights(seen: Seen) -> Any:
    return {name: tensor.numpy().tobytes() for name, tensor in seen.run.tensors.items()}


def names(seen: Seen) -> Any:
    return set(seen.run.tensors)


def shapes(seen: Seen) -> Any:
    return {name: tuple(tensor.shape) for name, tensor in seen.run.tensors.items()}


def alphas(seen: Seen) -> Any:
    return {name: float(tensor) for name, tensor in seen.run.tensors.items() if name.endswith("alpha")}


def dtypes(seen: Seen) -> Any:
    return {tensor.dtype for tensor in seen.run.tensors.values()}


def rounded(seen: Seen) -> Any:
    return all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in seen.run.tensors.values())


def rates(seen: Seen) -> Any:
    return [found for _, _, found in seen.run.record.rows]


def steps(seen: Seen) -> Any:
    return seen.run.outcome.steps


def files(seen: Seen) -> Any:
    return seen.run.files


def place(seen: Seen) -> Any:
    assert seen.run.outcome.path is not None
    return seen.run.outcome.path.parent


def prepared(seen: Seen) -> Any:
    return sum(1 for words, _, _ in seen.run.record.activities if words.startswith("Drawing class pictures"))


def ending(seen: Seen) -> Any:
    assert seen.run.outcome.path is not None
    return seen.run.outcome.path.suffix


def pictures(seen: Seen) -> Any:
    return [(step, index, picture.tobytes()) for step, index, _, picture in seen.run.record.pictures]


def prompts(seen: Seen) -> Any:
    return [prompt for _, _, prompt, _ in seen.run.record.pictures]


def validated(seen: Seen) -> Any:
    return [data for kind, data in seen.run.record.events if kind == "validation"]


def encoded(seen: Seen) -> Any:
    return seen.encoded


def checkpointed(seen: Seen) -> Any:
    return seen.checkpointed > 0


def cached(seen: Seen) -> Any:
    return len(list(seen.run.host.folders.cache.rglob("*.safetensors")))


def precision(seen: Seen) -> Any:
    return seen.run.metadata["ss_mixed_precision"]


def metadata(seen: Seen) -> Any:
    return {
        key: text for key, text in seen.run.metadata.items() if key.startswith(("modelspec", "ss_training_comment"))
    } | {"count": len(seen.run.metadata) > 5}


def text_of_model(seen: Seen) -> Any:
    assert seen.run.outcome.path is not None
    encoder = load_checkpoint(seen.run.outcome.path).parts.text_encoders[0]
    return [parameter.detach().numpy().tobytes() for parameter in encoder.parameters()]


def unet_of_model(seen: Seen) -> Any:
    assert seen.run.outcome.path is not None
    unet = load_checkpoint(seen.run.outcome.path).parts.denoiser
    return [parameter.detach().numpy().tobytes() for parameter in unet.parameters()]


def noted(seen: Seen) -> Any:
    return [step for step, _, _ in seen.run.record.rows]


def shown(seen: Seen) -> Any:
    assert seen.run.host.current is not None
    return seen.run.host.current.title


@dataclass
class Case:
    """With `base` and with `base` and `changes`, the settings give runs that differ in what `see` finds."""

    changes: dict[str, Any]
    see: See = weights
    base: dict[str, Any] = field(default_factory=dict)


SHUFFLED = {"shuffle_caption": True}
BUCKETS = {"min_bucket_reso": 16, "max_bucket_reso": 64, "train_batch_size": 1, "max_train_steps": 5}
LONG = {"max_train_steps": 4}
SAMPLED = {"sample_prompts": "a cat --s 2 --w 32 --h 32", "sample_at_first": True}
CLASSES = {"class_prompt": ["a cat"], "num_class_images": 1, "max_train_steps": 1}
LARGE = {"sample_prompts": "a cat --s 2 --w 64 --h 64 --d 5 --l 2", "sample_at_first": True}
SPLIT = {"validation_split": 0.5, "validation_seed": 1}
WHOLE = {"train_whole_model": True, "max_train_steps": 1, "learning_rate": 1e-3}
TEXT = {"train_text_encoder": True, **WHOLE}
EXPONENTIAL = {"lr_scheduler_type": "torch.optim.lr_scheduler.ExponentialLR"}

CASES: dict[str, Case] = {
    "output_name": Case({"output_name": "another"}, files),
    "trigger": Case({"trigger": "qqq"}),
    "subject": Case({"subject": "style"}, prompts, {"sample_at_first": True}),
    "train_data_dir": Case({"train_data_dir": "<others>"}),
    "seed": Case({"seed": 8}),
    # pictures
    "reg_data_dir": Case({"reg_data_dir": "<others>"}, base={"train_batch_size": 8}),
    "class_prompt": Case({"class_prompt": ["a cat", "a dog"]}, prepared, CLASSES),
    "num_class_images": Case({"num_class_images": 2}, prepared, CLASSES),
    "in_json": Case({"in_json": "<captions>"}, base={"train_data_dir": "<others>"}),
    "vae": Case({"vae": "<vae>"}),
    "resolution": Case({"resolution": "48"}, base=BUCKETS),
    "train_batch_size": Case({"train_batch_size": 1}),
    "dataset_repeats": Case({"dataset_repeats": 2}, steps, {"max_train_epochs": 1}),
    "enable_bucket": Case({"enable_bucket": False}, base=BUCKETS),
    "min_bucket_reso": Case({"min_bucket_reso": 32}, base=BUCKETS),
    "max_bucket_reso": Case({"max_bucket_reso": 32}, base=BUCKETS),
    "bucket_reso_steps": Case({"bucket_reso_steps": 32}, base=BUCKETS),
    "bucket_no_upscale": Case({"bucket_no_upscale": True}, base=BUCKETS),
    "resize_interpolation": Case({"resize_interpolation": "nearest"}),
    "flip_aug": Case({"flip_aug": True}),
    "color_aug": Case({"color_aug": True}),
    "random_crop": Case({"random_crop": True}, base={"enable_bucket": False}),
    "alpha_mask": Case({"alpha_mask": True}),
    "masked_loss": Case({"masked_loss": True}),
    "conditioning_data_dir": Case({"conditioning_data_dir": "<masks>"}, base={"masked_loss": True}),
    # captions
    "caption_extension": Case({"caption_extension": ".caption"}),
    "caption_separator": Case({"caption_separator": ";"}, base=SHUFFLED),
    "caption_prefix": Case({"caption_prefix": "photo of"}),
    "caption_suffix": Case({"caption_suffix": "indoors"}),
    "shuffle_caption": Case(SHUFFLED),
    "keep_tokens": Case({"keep_tokens": 3}, base=SHUFFLED),
    "keep_tokens_separator": Case({"keep_tokens_separator": "|||"}, base=SHUFFLED),
    "secondary_separator": Case({"secondary_separator": ";"}),
    "enable_wildcard": Case({"enable_wildcard": True}),
    "caption_dropout_rate": Case({"caption_dropout_rate": 1.0}),
    "caption_dropout_every_n_epochs": Case({"caption_dropout_every_n_epochs": 1}),
    "caption_tag_dropout_rate": Case({"caption_tag_dropout_rate": 0.9}),
    "token_warmup_min": Case({"token_warmup_min": 3}, base={"token_warmup_step": 10}),
    "token_warmup_step": Case({"token_warmup_step": 10}),
    "weighted_captions": Case({"weighted_captions": True}),
    # network
    "network_module": Case({"network_module": "lycoris.kohya"}, names, {"network_args": ["algo=loha"]}),
    "network_dim": Case({"network_dim": 3}, shapes),
    "network_alpha": Case({"network_alpha": 1.0}, alphas),
    "conv_dim": Case({"conv_dim": 2}, names),
    "conv_alpha": Case({"conv_alpha": 0.5}, alphas, {"conv_dim": 2}),
    "network_dropout": Case({"network_dropout": 0.5}),
    "network_args": Case({"network_args": ["rank_dropout=0.5"]}),
    "network_weights": Case({"network_weights": "<lora>"}, weights, {"network_dim": 3}),
    "dim_from_weights": Case({"dim_from_weights": True}, names, {"network_weights": "<lora>", "network_dim": 3}),
    "base_weights": Case({"base_weights": ["<lora>"]}),
    "base_weights_multiplier": Case({"base_weights_multiplier": [0.5]}, base={"base_weights": ["<lora>"]}),
    "scale_weight_norms": Case({"scale_weight_norms": 0.01}),
    # learning
    "max_train_steps": Case({"max_train_steps": 1}, steps),
    "max_train_epochs": Case({"max_train_epochs": 2}, steps),
    "learning_rate": Case({"learning_rate": 1e-3}, rates),
    "unet_lr": Case({"unet_lr": 1e-3}, rates),
    "text_encoder_lr": Case({"text_encoder_lr": [1e-3]}, rates),
    "optimizer_type": Case({"optimizer_type": "Lion"}),
    "optimizer_args": Case({"optimizer_args": ["weight_decay=0.5"]}),
    "max_grad_norm": Case({"max_grad_norm": 1e-3}, base={"optimizer_type": "SGD"}),
    "gradient_accumulation_steps": Case({"gradient_accumulation_steps": 2}),
    # schedule
    "lr_scheduler": Case({"lr_scheduler": "cosine"}, rates, LONG),
    "lr_warmup_steps": Case({"lr_warmup_steps": 2}, rates, {**LONG, "lr_scheduler": "constant_with_warmup"}),
    "lr_decay_steps": Case({"lr_decay_steps": 2}, rates, {**LONG, "lr_scheduler": "warmup_stable_decay"}),
    "lr_scheduler_num_cycles": Case(
        {"lr_scheduler_num_cycles": 2}, rates, {**LONG, "lr_scheduler": "cosine_with_restarts"}
    ),
    "lr_scheduler_power": Case({"lr_scheduler_power": 2.0}, rates, {**LONG, "lr_scheduler": "polynomial"}),
    "lr_scheduler_timescale": Case(
        {"lr_scheduler_timescale": 5}, rates, {**LONG, "lr_scheduler": "inverse_sqrt", "lr_warmup_steps": 1}
    ),
    "lr_scheduler_min_lr_ratio": Case(
        {"lr_scheduler_min_lr_ratio": 0.5}, rates,
        {**LONG, "lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1},
    ),
    "lr_scheduler_type": Case({**EXPONENTIAL, "lr_scheduler_args": ["gamma=0.5"]}, rates),
    "lr_scheduler_args": Case(
        {"lr_scheduler_args": ["gamma=0.2"]}, rates, {**EXPONENTIAL, "lr_scheduler_args": ["gamma=0.5"]}
    ),
    # noise and loss
    "loss_type": Case({"loss_type": "l1"}),
    "huber_schedule": Case({"huber_schedule": "constant"}, base={"loss_type": "huber"}),
    "huber_c": Case({"huber_c": 0.5}, base={"loss_type": "huber"}),
    "huber_scale": Case({"huber_scale": 3.0}, base={"loss_type": "huber", "huber_schedule": "constant"}),
    "min_snr_gamma": Case({"min_snr_gamma": 0.5}),
    "debiased_estimation_loss": Case({"debiased_estimation_loss": True}),
    "scale_v_pred_loss_like_noise_pred": Case({"scale_v_pred_loss_like_noise_pred": True}),
    "v_pred_like_loss": Case({"v_pred_like_loss": 0.5}),
    "noise_offset": Case({"noise_offset": 0.5}),
    "noise_offset_random_strength": Case({"noise_offset_random_strength": True}, base={"noise_offset": 0.5}),
    "adaptive_noise_scale": Case({"adaptive_noise_scale": 1.0}, base={"noise_offset": 0.5}),
    "multires_noise_iterations": Case({"multires_noise_iterations": 2}),
    "multires_noise_discount": Case({"multires_noise_discount": 0.9}, base={"multires_noise_iterations": 2}),
    "ip_noise_gamma": Case({"ip_noise_gamma": 0.5}),
    "ip_noise_gamma_random_strength": Case({"ip_noise_gamma_random_strength": True}, base={"ip_noise_gamma": 0.5}),
    "min_timestep": Case({"min_timestep": 900}),
    "max_timestep": Case({"max_timestep": 50}),
    "zero_terminal_snr": Case({"zero_terminal_snr": True}),
    "snr_after_rescaling": Case(
        {"snr_after_rescaling": True}, base={"zero_terminal_snr": True, "min_snr_gamma": 0.5}
    ),
    "prior_loss_weight": Case({"prior_loss_weight": 0.1}, base={"reg_data_dir": "<others>", "train_batch_size": 8}),
    # text encoder
    "network_train_unet_only": Case({"network_train_unet_only": True}, names),
    "network_train_text_encoder_only": Case({"network_train_text_encoder_only": True}, names),
    "clip_skip": Case({"clip_skip": 2}),
    "max_token_length": Case({"max_token_length": 150}),
    "cache_text_encoder_outputs": Case({"cache_text_encoder_outputs": True}, names),
    "cache_text_encoder_outputs_to_disk": Case(
        {"cache_text_encoder_outputs_to_disk": True}, cached, {"cache_text_encoder_outputs": True}
    ),
    # memory and precision
    "mixed_precision": Case({"mixed_precision": "bf16"}, precision),
    "gradient_checkpointing": Case({"gradient_checkpointing": True}, checkpointed),
    "full_bf16": Case({"full_bf16": True}, rounded),
    "vae_batch_size": Case({"vae_batch_size": 2}, encoded),
    "cache_latents": Case({"cache_latents": False}, encoded, {"max_train_steps": 16}),
    "cache_latents_to_disk": Case({"cache_latents_to_disk": True}, cached),
    # saving
    "output_dir": Case({"output_dir": "<elsewhere>"}, place),
    "save_model_as": Case({"save_model_as": "ckpt"}, ending, WHOLE),
    "save_precision": Case({"save_precision": "bf16"}, dtypes),
    "save_every_n_steps": Case({"save_every_n_steps": 1}, files),
    "save_every_n_epochs": Case({"save_every_n_epochs": 1}, files, LONG),
    "save_n_epoch_ratio": Case({"save_n_epoch_ratio": 2}, files, LONG),
    "save_last_n_steps": Case({"save_last_n_steps": 1}, files, {**LONG, "save_every_n_steps": 1}),
    "save_last_n_epochs": Case({"save_last_n_epochs": 1}, files, {"max_train_epochs": 4, "save_every_n_epochs": 1}),
    "initial_step": Case({"initial_step": 1}, noted, LONG),
    "initial_epoch": Case({"initial_epoch": 2}, noted, {**LONG, "train_batch_size": 4}),
    "skip_until_initial_step": Case({"skip_until_initial_step": True}, weights, {**LONG, "initial_step": 1}),
    # samples
    "sample_prompts": Case({"sample_prompts": "a dog --s 2"}, prompts, SAMPLED),
    "sample_every_n_steps": Case({"sample_every_n_steps": 1}, pictures, SAMPLED),
    "sample_every_n_epochs": Case({"sample_every_n_epochs": 1}, pictures, {**SAMPLED, **LONG}),
    "sample_at_first": Case({"sample_at_first": False}, pictures, SAMPLED),
    "sample_at_end": Case({"sample_at_end": True}, pictures, SAMPLED),
    "sample_with": Case({"sample_with": "host"}, pictures, LARGE),
    "sample_sampler": Case({"sample_sampler": "euler_a"}, pictures, SAMPLED),
    # validation
    "validation_split": Case({"validation_split": 0.5}, validated, {**LONG, "train_batch_size": 1}),
    "validation_seed": Case({"validation_seed": 2}, validated, SPLIT),
    "validate_every_n_steps": Case({"validate_every_n_steps": 1}, validated, {**SPLIT, **LONG, "train_batch_size": 1}),
    "validate_every_n_epochs": Case({"validate_every_n_epochs": 2}, validated, {**SPLIT, **LONG}),
    "max_validation_steps": Case(
        {"max_validation_steps": 1}, validated, {**SPLIT, "train_batch_size": 1, "validate_every_n_steps": 1}
    ),
    # Dreambooth
    "train_whole_model": Case({"train_whole_model": True}, place, {"max_train_steps": 1}),
    "load_when_done": Case({"load_when_done": True}, shown, WHOLE),
    "train_text_encoder": Case({"train_text_encoder": True}, text_of_model, WHOLE),
    "fused_backward_pass": Case({"fused_backward_pass": True}, weights, {"max_grad_norm": 1e-3, "max_train_steps": 3}),
    "freeze_blocks": Case({"freeze_blocks": ["down"]}, unet_of_model, WHOLE),
    "ema_decay": Case({"ema_decay": 0.9}),
    "ema_save": Case({"ema_save": "beside"}, files, {"ema_decay": 0.9}),
    "stop_text_encoder_training": Case(
        {"stop_text_encoder_training": 1}, text_of_model, {**TEXT, "max_train_steps": 2}
    ),
    "learning_rate_te": Case({"learning_rate_te": 1e-5}, rates, TEXT),
    "learning_rate_te1": Case({"learning_rate_te1": 1e-5}, rates, TEXT),
}  # fmt: skip
DESCRIBED = ("title", "author", "description", "license", "tags", "trigger_phrase", "usage_hint", "merged_from",
             "preprocessor", "is_negative_embedding", "thumbnail")  # fmt: skip
CASES |= {f"metadata_{key}": Case({f"metadata_{key}": "words"}, metadata) for key in DESCRIBED}
CASES |= {"training_comment": Case({"training_comment": "words"}, metadata)}
CASES |= {"no_metadata": Case({"no_metadata": True}, metadata)}
