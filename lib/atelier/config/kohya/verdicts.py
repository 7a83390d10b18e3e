"""A verdict for each key that kohya's programs know, from the tables beside this file (one row per key).

A key is honoured, without effect, or not supported. In the last two cases a note says why, or what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from atelier.config.settings.schema import options
from atelier.config.settings.values import nearest, plain

HONOURED = "honoured"
WITHOUT_EFFECT = "without effect"
NOT_SUPPORTED = "not supported"
UNKNOWN = "unknown"
WRONG = "wrong value"
TABLES = Path(__file__).parent / "tables"

_PICTURE = re.compile(r"[/\\]|\.(png|jpe?g|webp|bmp|avif|txt|npz)$", re.IGNORECASE)
_NOTHING: tuple[Any, ...] = ("", None, False, 0, "0", "false", "False", "None", "none", [], {})


@dataclass(frozen=True)
class Verdict:
    """A row of a table. `becomes`: the sd-scripts key for a name of the GUI or of metadata, "" if there is none.

    `kind`: an `Option.kind`, for keys of a training file that have no setting here.
    """

    key: str
    verdict: str
    note: str = ""
    becomes: str = ""
    kind: str = ""


@dataclass(frozen=True)
class KeyVerdict:
    """The verdict of one key in one file. `where`: its table in a TOML file, such as "datasets[0].subsets[1]"."""

    key: str
    value: Any
    verdict: str
    note: str = ""
    where: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "where": self.where,
            "value": plain(self.value),
            "verdict": self.verdict,
            "note": self.note,
        }


@lru_cache(maxsize=8)
def table(name: str) -> Mapping[str, Verdict]:
    """The table `tables/NAME.tsv` by key."""
    lines = (TABLES / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines if line]
    return {row[0]: Verdict(*row) for row in rows}


@lru_cache(maxsize=1)
def ours() -> Mapping[str, Verdict]:
    """Verdicts of the few settings that kohya's programs do not have."""
    return {option.key: Verdict(option.key, HONOURED) for option in options() if option.ours}


def training_verdict(key: str) -> Verdict:
    """The verdict of a key of a training TOML. An unknown key is `UNKNOWN`, with the most similar known one."""
    return table("training").get(key) or ours().get(key) or _other_models(key) or unknown(key, "training")


def dataset_verdict(key: str) -> Verdict:
    """The verdict of a key of a dataset TOML."""
    return table("dataset").get(key) or unknown(key, "dataset")


def gui_verdict(key: str) -> Verdict:
    """The verdict of a key of a kohya_ss GUI preset: the GUI's own names first, then sd-scripts' names."""
    found = table("gui").get(key)
    if found:
        return found
    if _PICTURE.search(key):
        return Verdict(key, WITHOUT_EFFECT, "It names a picture, not a setting.")
    shared = training_verdict(key)
    if shared.verdict == UNKNOWN:
        return unknown(key, "gui", "training")
    return Verdict(key, shared.verdict, shared.note, key)


def metadata_verdict(key: str) -> Verdict:
    """The verdict of a key of a LoRA file's metadata."""
    return table("metadata").get(key) or Verdict(key, WITHOUT_EFFECT, "It says nothing about how to train.")


def for_value(found: Verdict, value: Any) -> Verdict:
    """`found`, but without effect when the key is not supported and the file switches it off."""
    if found.verdict == NOT_SUPPORTED and any(value is nothing or value == nothing for nothing in _NOTHING):
        return Verdict(found.key, WITHOUT_EFFECT, "It is switched off in this file.", found.becomes)
    return found


def unknown(key: str, *tables: str) -> Verdict:
    """The verdict of a key that is in none of `tables`."""
    guess = _SYNONYMS.get(key.lower()) or nearest(key, [known for name in tables for known in table(name)])
    return Verdict(key, UNKNOWN, f"There is no such key; did you mean {guess}?" if guess else "There is no such key.")


_SYNONYMS = {
    "batch_size": "train_batch_size", "num_repeats": "dataset_repeats", "repeats": "dataset_repeats",
    "epochs": "max_train_epochs", "epoch": "max_train_epochs", "num_epochs": "max_train_epochs",
    "steps": "max_train_steps", "max_steps": "max_train_steps", "train_steps": "max_train_steps",
    "lr": "learning_rate", "te_lr": "text_encoder_lr", "text_lr": "text_encoder_lr", "optimizer": "optimizer_type",
    "scheduler": "lr_scheduler", "lr_restart_cycles": "lr_scheduler_num_cycles", "warmup_steps": "lr_warmup_steps",
    "warmup_ratio": "lr_warmup_steps", "rank": "network_dim", "dim": "network_dim", "lora_rank": "network_dim",
    "network_rank": "network_dim", "alpha": "network_alpha", "lora_alpha": "network_alpha",
    "image_dir": "train_data_dir",
    "instance_data_dir": "train_data_dir", "class_data_dir": "reg_data_dir", "max_resolution": "resolution",
    "model": "pretrained_model_name_or_path", "base_model": "pretrained_model_name_or_path",
    "pretrained_model": "pretrained_model_name_or_path", "vae_path": "vae", "gradient_accumulation":
    "gradient_accumulation_steps", "clip_grad_norm": "max_grad_norm", "name": "output_name",
}  # fmt: skip
"""Other programs' and other levels' names of keys, which are not the most similar in letters."""


def _other_models(key: str) -> Verdict | None:
    found = table("other_models").get(key)
    if found is None:
        return None
    return Verdict(key, NOT_SUPPORTED, f"It belongs to {found.note}; only Stable Diffusion 1, 2 and XL can be trained.")
