"""A job as the pair of TOML files that kohya's sd-scripts would run."""

from __future__ import annotations

import dataclasses
from typing import Any

import tomlkit

from atelier.config.datasets import Dataset, Subset
from atelier.config.job import JobConfig
from atelier.config.schema import options

PRECISION_OF_AUTO = "bf16"
"""What "auto" becomes for a program that does not know it."""


def training_toml(job: JobConfig, for_kohya: bool = False) -> str:
    """The training TOML: every setting that differs from its default, by group.

    With `for_kohya`, keys of ours are left out or written in kohya's way (conv_dim goes into network_args).
    """
    document = tomlkit.document()
    tables: dict[str, Any] = {}
    for option in options():
        value = getattr(job.settings, option.key)
        needed = option.key == "output_name" or (for_kohya and option.key in _ALWAYS)
        if value is None or (value == option.default and not needed):
            continue
        if for_kohya and option.ours:
            continue
        if for_kohya and option.key == "mixed_precision" and value == "auto":
            value = PRECISION_OF_AUTO
        table = tables.setdefault(option.group, tomlkit.table())
        table[option.key] = list(value) if isinstance(value, (list, tuple)) else value
    if for_kohya:
        _conv_arguments(job, tables)
    for group, table in tables.items():
        document[group.lower().replace(" ", "_")] = table
    return tomlkit.dumps(document)


_ALWAYS = {"network_module", "network_dim", "network_alpha", "optimizer_type", "learning_rate", "max_train_steps",
           "save_precision", "save_model_as", "lr_scheduler", "max_grad_norm", "caption_extension"}  # fmt: skip
"""Keys whose default here differs from kohya's, or without which its scripts do not start."""


def dataset_toml(job: JobConfig) -> str:
    """The dataset TOML, with every value of a subset that differs from its default."""
    document = tomlkit.document()
    datasets = tomlkit.aot()
    for dataset in job.datasets.datasets:
        table = tomlkit.table()
        for item in dataclasses.fields(Dataset):
            value = getattr(dataset, item.name)
            if item.name == "subsets" or value is None:
                continue
            table[item.name] = list(value) if isinstance(value, tuple) else value
        subsets = tomlkit.aot()
        for subset in dataset.subsets:
            subsets.append(_subset_table(subset))
        table["subsets"] = subsets
        datasets.append(table)
    document["datasets"] = datasets
    return tomlkit.dumps(document)


def _subset_table(subset: Subset) -> Any:
    table = tomlkit.table()
    default = Subset()
    for item in dataclasses.fields(Subset):
        value = getattr(subset, item.name)
        if value is None or value == {} or (value == getattr(default, item.name) and item.name not in _SUBSET_ALWAYS):
            continue
        table[item.name] = value
    return table


_SUBSET_ALWAYS = {"image_dir", "num_repeats", "caption_extension"}


def _conv_arguments(job: JobConfig, tables: dict[str, Any]) -> None:
    settings = job.settings
    extra = [f"{key}={getattr(settings, key)}" for key in ("conv_dim", "conv_alpha") if getattr(settings, key)]
    if extra:
        table = tables.setdefault("Network", tomlkit.table())
        table["network_args"] = [*settings.network_args, *extra]
