"""Settings as the form of lora-scripts (秋葉's SD-Trainer) keeps them: sd-scripts' keys, and some that it translates.

Source: https://github.com/Akegarasu/lora-scripts, mikazuki/schema and mikazuki/app/api.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.imports.programs.plain_keys import Plain, number_above_zero
from atelier.config.kohya.assemble import Entry
from atelier.config.kohya.toml_text import parse_toml
from atelier.config.kohya.verdicts import HONOURED, NOT_SUPPORTED, WITHOUT_EFFECT, KeyVerdict

MARKS = (
    ("model_train_type",), ("metadata.train_type",), ("metadata.version", "data"), ("lycoris_algo",),
    ("optimizer_args_custom",), ("network_args_custom",), ("enable_block_weights",), ("enable_base_weight",),
    ("ui_custom_params",),
)  # fmt: skip
_KINDS = {"sd-lora": False, "sdxl-lora": False, "sd-dreambooth": True, "sdxl-finetune": True}
"""What can be trained here, and whether it is the whole model."""

_ABOUT = ("name", "version", "author", "description", "train_type")
_PREVIEW = {"negative_prompts": "n", "sample_width": "w", "sample_height": "h", "sample_cfg": "l", "sample_steps": "s",
            "sample_seed": "d"}  # fmt: skip
_BLOCKS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold")


def translate(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
    """The form's settings. Raises `AtelierError` for a model that cannot be trained here."""
    form, about = _flat(path, data)
    kind = str(form.get("model_train_type") or about.get("train_type") or "sd-lora")
    if kind not in _KINDS:
        raise AtelierError(
            f"{path.name} is of lora-scripts and trains {kind}; only Stable Diffusion 1, 2 and XL can be trained."
        )
    found = Plain()
    for key, value in about.items():
        found.keys[key] = KeyVerdict(key, value, WITHOUT_EFFECT, "It describes the file.")
    for key, value in form.items():
        if key == "randomly_choice_prompt" and value:
            found.keys[key] = KeyVerdict(key, value, NOT_SUPPORTED, "Write the prompts of the previews yourself.")
        elif key == "gpu_ids":
            found.keys[key] = KeyVerdict(key, value, WITHOUT_EFFECT, "Choose the device with --device.")
        elif key in _FORM:
            found.keys[key] = KeyVerdict(key, value, HONOURED)
        else:
            found.entries.append(Entry(key, value))
    if _KINDS[kind]:
        found.add("train_whole_model", True)
    else:
        found.add("network_args", [*_listed(form.get("network_args")), *_network_args(form)] or None)
    found.add("optimizer_args", [*_listed(form.get("optimizer_args")), *_optimizer_args(form)] or None)
    found.add("sample_prompts", _prompts(form))
    if form.get("enable_base_weight", True):
        found.add("base_weights", _listed(form.get("base_weights")) or None)
        found.add("base_weights_multiplier", _listed(form.get("base_weights_multiplier")) or None)
    return found


_FORM = {
    "model_train_type", "lycoris_algo", "lokr_factor", "dropout", "train_norm", "dylora_unit", "network_args",
    "network_args_custom", "optimizer_args", "optimizer_args_custom", "prodigy_d0", "prodigy_d_coef",
    "enable_block_weights", *_BLOCKS, "enable_base_weight", "base_weights", "base_weights_multiplier",
    "enable_preview", "positive_prompts", *_PREVIEW, "randomly_choice_prompt", "prompt_file", "sample_prompts",
    "ui_custom_params", "gpu_ids",
}  # fmt: skip
"""Keys that are read here together, since sd-scripts says them in other words."""


def _flat(path: Path, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The form's keys, and what a preset says of itself. Own TOML text of the form wins over its fields."""
    about = dict(data["metadata"]) if isinstance(data.get("metadata"), Mapping) else {}
    form: dict[str, Any] = {}
    for key, value in data.items():
        if key == "data" and isinstance(value, Mapping):
            form.update(value)
        elif key in _ABOUT:
            about[key] = value
        elif key != "metadata":
            form[key] = value
    own = form.get("ui_custom_params")
    if isinstance(own, str) and own.strip():
        form.update(parse_toml(own, f"ui_custom_params of {path.name}"))
    return form, about


def _network_args(form: Mapping[str, Any]) -> list[str]:
    module, found = str(form.get("network_module") or ""), []
    algo = str(form.get("lycoris_algo") or "")
    if module.startswith("lycoris"):
        found += [f"algo={algo}"] if algo else []
        found += [f"dropout={form['dropout']}"] if number_above_zero(form.get("dropout")) is not None else []
        found += ["train_norm=True"] if form.get("train_norm") is True else []
        found += [f"factor={form['lokr_factor']}"] if algo == "lokr" and "lokr_factor" in form else []
    elif module.endswith("dylora") and "dylora_unit" in form:
        found.append(f"unit={form['dylora_unit']}")
    elif form.get("enable_block_weights") is True:  # the form offers it for networks.lora alone
        found += [f"{key}={form[key]}" for key in _BLOCKS if form.get(key) not in (None, "")]
    return [*found, *_listed(form.get("network_args_custom"))]


def _optimizer_args(form: Mapping[str, Any]) -> list[str]:
    found = []
    if str(form.get("optimizer_type") or "").lower() == "prodigy":
        given = {"d_coef": form.get("prodigy_d_coef"), "d0": form.get("prodigy_d0")}
        found = [f"{key}={value}" for key, value in given.items() if value not in (None, "")]
    return [*found, *_listed(form.get("optimizer_args_custom"))]


def _prompts(form: Mapping[str, Any]) -> str | None:
    """The previews' prompt in sd-scripts' words, or the file of prompts."""
    if form.get("enable_preview", True) is False:
        return None
    for key in ("prompt_file", "sample_prompts"):
        if isinstance(form.get(key), str) and form[key].strip():
            return str(form[key]).strip()
    prompt = str(form.get("positive_prompts") or "").strip()
    if not prompt or form.get("randomly_choice_prompt"):
        return None
    flags = [f"--{flag} {form[key]}" for key, flag in _PREVIEW.items() if form.get(key) not in (None, "")]
    return " ".join([" ".join(prompt.split()), *(" ".join(flag.split()) for flag in flags)])


def _listed(value: Any) -> list[str]:
    """A list of the form, or its text with one entry in a line."""
    if isinstance(value, str):
        value = value.splitlines()
    return [str(item).strip() for item in value if str(item).strip()] if isinstance(value, list) else []
