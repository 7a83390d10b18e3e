"""Settings as the form of lora-scripts keeps them, with keys that sd-scripts says in other words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from atelier.config.errors import AtelierError
from atelier.config.imports.importer import read_any

FORM: dict[str, Any] = {
    "model_train_type": "sdxl-lora", "pretrained_model_name_or_path": "base.safetensors", "vae": "",
    "train_data_dir": "pictures", "resolution": "1024,1024", "output_name": "aki", "unet_lr": "1e-4",
    "optimizer_type": "Prodigy", "prodigy_d_coef": "2.0", "prodigy_d0": "",
    "optimizer_args_custom": ["weight_decay=0.01"],
    "network_module": "lycoris.kohya", "lycoris_algo": "lokr", "lokr_factor": 8, "conv_dim": 4, "conv_alpha": 1,
    "dropout": 0.1, "network_dim": 32, "network_alpha": 16, "network_args_custom": ["use_tucker=True"],
    "enable_preview": True, "positive_prompts": "1girl,\nsolo", "negative_prompts": "lowres", "sample_width": 512,
    "sample_height": 768, "sample_cfg": 7, "sample_seed": 2333, "sample_steps": 24, "gpu_ids": ["0"],
    "randomly_choice_prompt": False, "prompt_file": "", "ui_custom_params": "min_snr_gamma = 5",
}  # fmt: skip


def written(folder: Path, content: dict[str, Any], name: str = "x.toml") -> Path:
    (folder / name).write_text(tomlkit.dumps(content) if name.endswith("toml") else json.dumps(content), "utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["x.toml", "x.json"])
def test_the_form_is_said_in_sd_scripts_words(name: str, tmp_path: Path) -> None:
    found = read_any(written(tmp_path, FORM, name))
    assert found.kind == "lora-scripts settings" and found.usable, found.problems
    assert found.values == {
        "pretrained_model_name_or_path": "base.safetensors", "train_data_dir": "pictures", "vae": None,
        "resolution": "1024,1024", "output_name": "aki", "unet_lr": 1e-4, "optimizer_type": "Prodigy",
        "optimizer_args": ["d_coef=2.0", "weight_decay=0.01"], "network_module": "lycoris.kohya", "conv_dim": 4,
        "conv_alpha": 1.0, "network_dim": 32, "network_alpha": 16.0, "min_snr_gamma": 5.0,
        "network_args": ["algo=lokr", "dropout=0.1", "factor=8", "use_tucker=True"],
        "sample_prompts": "1girl, solo --n lowres --w 512 --h 768 --l 7 --s 24 --d 2333",
    }  # fmt: skip
    assert {key.key for key in found.keys} >= set(FORM) and not any(key.verdict == "unknown" for key in found.keys)


@pytest.mark.parametrize(
    ("changed", "key", "value"),
    [
        ({"enable_preview": False}, "sample_prompts", None),
        ({"prompt_file": "prompts.txt"}, "sample_prompts", "prompts.txt"),
        ({"model_train_type": "sd-dreambooth"}, "train_whole_model", True),
        ({"network_module": "networks.lora", "enable_block_weights": True, "mid_lr_weight": "2"}, "network_args",
         ["mid_lr_weight=2", "use_tucker=True"]),
        ({"enable_base_weight": True, "base_weights": "a.safetensors\nb.safetensors"}, "base_weights",
         ["a.safetensors", "b.safetensors"]),
        ({"enable_base_weight": False, "base_weights": "a.safetensors"}, "base_weights", []),
    ],
)  # fmt: skip
def test_what_a_switch_of_the_form_turns_on(changed: dict[str, Any], key: str, value: Any, tmp_path: Path) -> None:
    found = read_any(written(tmp_path, {**FORM, **changed}))
    assert getattr(found.settings, key) == value, found.problems


def test_other_models_are_refused(tmp_path: Path) -> None:
    preset = {"metadata": {"name": "x", "version": "1", "train_type": "flux-lora"}, "data": {"learning_rate": 1e-4}}
    for content, kind in (({**FORM, "model_train_type": "sd3-lora"}, "sd3-lora"), (preset, "flux-lora")):
        with pytest.raises(AtelierError, match=f"is of lora-scripts and trains {kind}"):
            read_any(written(tmp_path, content))


def test_a_preset_describes_itself_without_a_warning(tmp_path: Path) -> None:
    preset = {"metadata": {"name": "中分辨率训练", "version": "1"}, "data": {"resolution": "768,768"}}
    found = read_any(written(tmp_path, preset))
    assert found.usable and found.values == {"resolution": "768,768"} and not found.notes
