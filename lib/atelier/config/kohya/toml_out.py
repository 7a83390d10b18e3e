"""Writes a job as two TOML files that kohya's sd-scripts can run and that read back as the same job.

sd-scripts reads the keys of all sections and ignores keys that it does not know. It does not look into a table within
a section, so settings that it lacks are written there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tomlkit

from atelier.config.datasets import Dataset, Subset
from atelier.config.job import JobConfig
from atelier.config.kohya.assemble import KOHYA_DEFAULTS
from atelier.config.kohya.dataset_toml import COMPLETE
from atelier.config.kohya.dataset_toml import OURS as IN_ATTRIBUTES
from atelier.config.kohya.toml_in import EXACT, OURS
from atelier.config.settings.named import PRIVATE_SETTINGS
from atelier.config.settings.option import Option
from atelier.config.settings.schema import options

PRECISION_OF_AUTO = "bf16"
"""What mixed_precision = "auto" becomes for sd-scripts, which does not know it."""

_ALWAYS = {"output_name", "network_module", "network_dim", "network_alpha", "optimizer_type", "learning_rate",
           "max_train_steps", "save_precision", "save_model_as", "lr_scheduler", "resolution"}  # fmt: skip
"""Written even where they equal sd-scripts' defaults, for the person who reads the file."""


def training_toml(job: JobConfig, for_kohya: bool = False, **instead: Any) -> str:
    """The training TOML, by group: every setting that differs from the default that reading would fill in.

    With `for_kohya`, settings that sd-scripts lacks are written in its words (conv_dim in network_args, a precision
    for "auto"). `instead` has further values for sd-scripts, by key, in place of the job's.
    """
    ours = tomlkit.table()
    tables: dict[str, Any] = {}
    if for_kohya:
        instead = {**_in_kohyas_words(job), **instead}
        hidden = _NOT_INHERITED if job.datasets.datasets else frozenset()
    else:
        hidden = frozenset()
    unset = []
    for option in options():
        value = getattr(job.settings, option.key)
        if for_kohya and option.key in PRIVATE_SETTINGS:  # such a file is given to others
            continue
        written = _written(option, value)
        if option.key in instead:
            if written is not None:
                ours[option.key] = written
            elif instead[option.key] is not None and value != instead[option.key]:
                unset.append(option.key)
            written = instead[option.key]
        elif for_kohya and (option.ours or option.key in hidden):
            if written is not None:
                ours[option.key] = written
            continue
        if written is not None:
            tables.setdefault(option.group, tomlkit.table())[option.key] = written
    if unset:
        ours["unset"] = unset
    known = {option.key for option in options()}
    for key, value in [*job.extra.items(), *((key, value) for key, value in instead.items() if key not in known)]:
        tables.setdefault("Other", tomlkit.table())[key] = value
    document = tomlkit.document()
    if ours:
        document[OURS] = {EXACT: ours}
    for group, table in tables.items():
        document[group.lower().replace(" ", "_")] = table
    return tomlkit.dumps(document)


_NOT_INHERITED = frozenset((
    "resize_interpolation", "validation_seed", "secondary_separator", "face_crop_aug_range", "conditioning_data_dir",
    "caption_prefix", "caption_suffix",
))  # fmt: skip
"""Settings that a dataset file cannot unset once the training file has them. The datasets have their own values."""


def _written(option: Option, value: Any) -> Any:
    """The value to write; None when reading fills in the same value anyway."""
    unless = KOHYA_DEFAULTS.get(option.key, option.default)
    if value is None or (value == unless and type(value) is type(unless) and option.key not in _ALWAYS):
        return None
    return list(value) if isinstance(value, (list, tuple)) else value


def _in_kohyas_words(job: JobConfig) -> dict[str, Any]:
    settings = job.settings
    found: dict[str, Any] = {}
    if settings.mixed_precision == "auto":
        found["mixed_precision"] = PRECISION_OF_AUTO
    extra = [
        f"{key}={getattr(settings, key)}" for key in ("conv_dim", "conv_alpha") if getattr(settings, key) is not None
    ]
    arguments = list(settings.network_args)
    if settings.network_module == "lycoris.kohya" and "algo=dora" in arguments:  # LyCORIS has no such name
        arguments = [argument for argument in arguments if argument not in ("algo=dora", "dora_wd=True")]
        direction = [] if any(text.startswith("wd_on_output=") for text in arguments) else ["wd_on_output=False"]
        arguments = ["algo=lora", "dora_wd=True", *direction, *arguments]
    if extra or arguments != settings.network_args:
        found["network_args"] = [*arguments, *extra]
    return found


def dataset_toml(job: JobConfig, for_kohya: bool = False) -> str:
    """The dataset TOML, with every value, so that nothing is inherited from the training file.

    With `for_kohya` the trigger word is put into caption_prefix. Keys that sd-scripts would refuse are left out or
    kept in custom_attributes, which it does not read.
    """
    document = tomlkit.document()
    document["general"] = {"custom_attributes": {IN_ATTRIBUTES: {COMPLETE: True}}}
    datasets = tomlkit.aot()
    for dataset in job.datasets.datasets:
        table = tomlkit.table()
        for item in dataclasses.fields(Dataset):
            value = getattr(dataset, item.name)
            if item.name == "subsets" or value is None or (item.name == "network_multiplier" and value == 1.0):
                continue
            table[item.name] = list(value) if isinstance(value, tuple) else value
        subsets = tomlkit.aot()
        for subset in dataset.subsets:
            subsets.append(_subset_table(_for_kohya(subset, job.trigger) if for_kohya else subset, for_kohya))
        table["subsets"] = subsets
        datasets.append(table)
    document["datasets"] = datasets
    return tomlkit.dumps(document)


_CAPTION_FILE = {"caption_extension", "cache_info"}
_OURS = {"caption_from_name", "loss_weight"}
_REFUSED = {
    "captioned": {"metadata_file", "conditioning_data_dir", *_OURS},
    "metadata": {"conditioning_data_dir", *_OURS, "is_reg", "class_tokens", *_CAPTION_FILE},
    "masked": {"metadata_file", *_OURS, "is_reg", "class_tokens", "alpha_mask"},
}
"""Keys that sd-scripts refuses, by kind of subset."""


def _subset_table(subset: Subset, for_kohya: bool) -> Any:
    table = tomlkit.table()
    for item in dataclasses.fields(Subset):
        value = getattr(subset, item.name)
        if for_kohya and item.name in _REFUSED[_kind(subset)]:
            continue
        if item.name in _EMPTY_TEXT and value is None:
            value = ""
        if value is None or value == {} or (item.name in _OURS and value == item.default):
            continue
        table[item.name] = value
    return table


_EMPTY_TEXT = {"caption_prefix", "caption_suffix"}
"""Written as "" where a subset has none; otherwise sd-scripts would use the training file's."""


def _for_kohya(subset: Subset, trigger: str) -> Subset:
    """The subset with the trigger in its caption_prefix, and with custom_attributes that let reading undo it."""
    ours: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    if subset.caption_from_name:
        ours["caption_from_name"] = True
    if subset.loss_weight != 1.0:
        ours["loss_weight"] = subset.loss_weight
    if trigger and not subset.is_reg:
        ours |= {"caption_prefix": subset.caption_prefix or "", "keep_tokens": subset.keep_tokens}
        front = trigger + (subset.caption_separator or ",")
        changes["caption_prefix"] = f"{front} {subset.caption_prefix}" if subset.caption_prefix else front
        changes["keep_tokens"] = subset.keep_tokens + 1
    for key in ("is_reg", "class_tokens", "alpha_mask"):
        if getattr(subset, key) and key in _REFUSED[_kind(subset)]:
            ours[key] = getattr(subset, key)
    if not ours:
        return subset
    return dataclasses.replace(subset, **changes, custom_attributes={**subset.custom_attributes, IN_ATTRIBUTES: ours})


def _kind(subset: Subset) -> str:
    return "metadata" if subset.metadata_file else "masked" if subset.conditioning_data_dir else "captioned"
