"""Configurations of diffusion-pipe (TOML), for SDXL.

Source: https://github.com/tdrussell/diffusion-pipe, examples/main_example.toml and examples/dataset.toml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.files.paths import is_file
from atelier.config.imports.programs.plain_keys import (
    ELSEWHERE,
    OPTIMIZERS,
    PRECISION,
    SCHEDULES,
    Plain,
    number_above_zero,
    size,
)
from atelier.config.kohya.document import parse_document, read_text
from atelier.config.kohya.toml_in import find_beside


def translate(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
    """The configuration's settings. Raises `AtelierError` for a model that cannot be trained here."""
    model, adapter, optimizer = (_table(data, key) for key in ("model", "adapter", "optimizer"))
    kind = str(model.get("type") or "another model")
    if kind != "sdxl":
        raise AtelierError(
            f"{path.name} is of diffusion-pipe and trains {kind}; only Stable Diffusion 1, 2 and XL can be trained."
        )
    found = Plain()
    found.take(data, _NAMES, "diffusion-pipe")
    for name in ("model", "adapter"):
        found.rest(data, name, _TABLES[name], "diffusion-pipe")
    found.leave(data, [key for key in data if key in _SAYS_NOTHING], "It changes nothing of what is learnt.")
    found.add("pretrained_model_name_or_path", model.get("checkpoint_path"))
    found.add("mixed_precision", PRECISION(model["dtype"]) if "dtype" in model else None)
    found.add("unet_lr", model.get("unet_lr"))
    rates = [model[key] for key in ("text_encoder_1_lr", "text_encoder_2_lr") if key in model]
    found.add("text_encoder_lr", rates or None)
    for key in ("min_snr_gamma", "debiased_estimation_loss"):
        found.add(key, model.get(key))
    if adapter:
        rank = adapter.get("rank")
        found.add("network_module", "networks.lora")
        found.add("network_dim", rank)
        found.add("network_alpha", rank)  # the program's LoRA has the rank as alpha
        found.add("network_dropout", number_above_zero(adapter.get("dropout")))
        found.add("network_weights", adapter.get("init_from_existing"))
    else:
        found.add("train_whole_model", True)
    if optimizer:
        found.add("optimizer_type", OPTIMIZERS(optimizer.get("type") or "AdamW"))
        found.add("learning_rate", optimizer.get("lr"))
        # the program hands every other key to the optimizer
        pairs = [f"{key}={_text(value)}" for key, value in optimizer.items() if key not in _TABLES["optimizer"]]
        found.add("optimizer_args", pairs or None)
    if data.get("warmup_steps") and data.get("lr_scheduler", "constant") == "constant":
        found.add("lr_scheduler", "constant_with_warmup")
    _pictures(found, path, data.get("dataset") if files else None)
    return found


def refuse_dataset(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
    """The dataset file of a configuration has no settings of its own. Raises `AtelierError`."""
    raise AtelierError(
        f"{path.name} is a dataset file of diffusion-pipe. Give the configuration that names it, which lies beside it."
    )


def _pictures(found: Plain, path: Path, named: Any) -> None:
    """The first folder in the program's dataset file, which lies beside it."""
    place = find_beside(Path(str(named)), path) if named else None
    if place is None or not is_file(place):
        found.notes.append(f"The dataset file {named} is not here. Choose your folder of pictures.")
        return
    content = parse_document(read_text(place), place.name).content
    folders = content.get("directory")
    folders = [item for item in folders if isinstance(item, Mapping)] if isinstance(folders, list) else []
    resolutions = content.get("resolutions")
    if isinstance(resolutions, list) and resolutions:
        found.add("resolution", size(resolutions[0]) if not isinstance(resolutions[0], list) else resolutions[0])
    if not folders:
        found.notes.append(f"{place.name} names no folder. Choose your folder of pictures.")
        return
    found.add("train_data_dir", folders[0].get("path"))
    found.add("dataset_repeats", folders[0].get("num_repeats", content.get("num_repeats")))
    if isinstance(resolutions, list) and len(resolutions) > 1:
        found.notes.append(f"{place.name} names {len(resolutions)} resolutions; the first is used.")
    if len(folders) > 1:
        found.notes.append(f"{place.name} names {len(folders)} folders; the first is used.")


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


_TABLES = {
    "model": ("type", "checkpoint_path", "dtype", "unet_lr", "text_encoder_1_lr", "text_encoder_2_lr",
              "min_snr_gamma", "debiased_estimation_loss", "v_pred"),
    "adapter": ("type", "rank", "alpha", "dropout", "init_from_existing", "dtype"),
    "optimizer": ("type", "lr", "gradient_release"),
}  # fmt: skip
"""What is read of each table. The prediction type is seen in the model, and alpha is the rank."""
_SAYS_NOTHING = (
    "pipeline_stages", "partition_method", "caching_batch_size", "steps_per_print", "checkpoint_every_n_minutes",
    "checkpoint_every_n_epochs", "monitoring", "eval_every_n_epochs", "eval_before_first_step",
    "eval_micro_batch_size_per_gpu", "eval_gradient_accumulation_steps", "disable_block_swap_for_eval",
    "video_clip_mode", "map_num_proc", "logging_steps", "x_axis_examples",
)  # fmt: skip
_NAMES: dict[str, Any] = {
    **dict.fromkeys((*_TABLES, "dataset"), ELSEWHERE),
    "output_dir": ("output_dir", None),
    "epochs": ("max_train_epochs", None),
    "max_steps": ("max_train_steps", number_above_zero),
    "micro_batch_size_per_gpu": ("train_batch_size", None),
    "gradient_accumulation_steps": ("gradient_accumulation_steps", None),
    "gradient_clipping": ("max_grad_norm", None),
    "warmup_steps": ("lr_warmup_steps", number_above_zero),
    "lr_scheduler": ("lr_scheduler", SCHEDULES),
    "save_every_n_epochs": ("save_every_n_epochs", number_above_zero),
    "save_every_n_steps": ("save_every_n_steps", number_above_zero),
    "activation_checkpointing": ("gradient_checkpointing", bool),
    "save_dtype": ("save_precision", PRECISION),
}
