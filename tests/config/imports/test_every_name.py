"""Every honoured name in the tables is read: two files that differ in it are two jobs.

What each setting then does is shown by runs (tests/training/runs/test_schema.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import torch
from safetensors.torch import save_file

from atelier.config.imports.importer import Imported, read_any
from atelier.config.kohya.verdicts import HONOURED, table
from atelier.config.settings.option import Option
from atelier.config.settings.schema import options

DECLARED = {option.key: option for option in options()}
TWO_TEXTS = ("one", "two")
KINDS: dict[str, tuple[Any, Any]] = {
    "bool": (False, True), "int": (2, 3), "float": (0.25, 0.5), "int_or_float": (2, 3), "str": TWO_TEXTS,
    "floats": (0.25, 0.5), "strs": ("a=1", "b=2"),
}  # fmt: skip


def two_values(option: Option) -> tuple[Any, Any]:
    """Two values that the setting allows."""
    if option.choices:
        return option.choices[0], option.choices[-1]
    low = option.minimum or 0
    if option.kind in ("int", "float") and low > 1:
        return low, low + 8
    return KINDS[option.kind]


def told(found: Imported) -> Any:
    """What a file comes to: every setting and dataset."""
    assert found.usable, found.problems
    return found.settings, found.datasets


# -- training TOML ----------------------------------------------------------------------------------------------------

TRAINING: dict[str, tuple[dict[str, Any], tuple[Any, Any]]] = {
    # key -> the values beside it, and its own two
    "resolution": ({}, ("512", "768")),
    "network_args": ({}, (["rank_dropout=0.1"], ["rank_dropout=0.2"])),
    "optimizer_args": ({}, (["eps=1"], ["eps=2"])),
    "lr_warmup_steps": ({"lr_scheduler": "linear"}, (2, 3)),
    "lr_scheduler": ({}, ("linear", "cosine")),
    "max_bucket_reso": ({}, (512, 768)),
    "network_module": ({}, ("networks.lora", "lycoris.kohya")),
    "min_timestep": ({}, (2, 3)),
    "dim_from_weights": ({"network_weights": "x"}, (False, True)),
    "base_weights_multiplier": ({"base_weights": ["x"]}, (0.25, 0.5)),
    "caption_extention": ({}, (".one", ".two")),
    "dataset_config": ({}, ("<one>", "<two>")),
    "use_8bit_adam": ({}, (False, True)),
    "use_lion_optimizer": ({}, (False, True)),
    "use_safetensors": ({"save_model_as": "ckpt"}, (False, True)),
    "cache_text_encoder_outputs_to_disk": ({"caption_dropout_rate": 0}, (False, True)),
    "save_model_as": ({}, ("safetensors", "ckpt")),
}


def honoured(name: str) -> list[str]:
    return [row.key for row in table(name).values() if row.verdict == HONOURED]


@pytest.mark.parametrize("key", honoured("training"))
def test_a_training_key_is_read(key: str, tmp_path: Path) -> None:
    beside, values = TRAINING.get(key) or ({}, two_values(DECLARED[key]))
    for name, repeats in (("one", 2), ("two", 3)):
        data = f'[[datasets]]\n[[datasets.subsets]]\nimage_dir = "x"\nnum_repeats = {repeats}\n'
        (tmp_path / name).write_text(data, encoding="utf-8")
    found = []
    for value in values:
        value = str(tmp_path / value.strip("<>")) if value in ("<one>", "<two>") else value
        (tmp_path / "x.toml").write_text(tomlkit.dumps({"seed": 1, **beside, key: value}), encoding="utf-8")
        found.append(told(read_any(tmp_path / "x.toml")))
    assert found[0] != found[1]


# -- presets of the GUI -----------------------------------------------------------------------------------------------

LORA = {"LoRA_type": "Standard"}
LOCON = {"LoRA_type": "LyCORIS/LoCon"}
LOKR = {"LoRA_type": "LyCORIS/LoKr"}
WHOLE = {"max_train_steps": 100}
PERCENT = ("10", "20")
GUI: dict[str, tuple[dict[str, Any], tuple[Any, Any]]] = {
    "additional_parameters": (LORA, ("--seed 1", "--seed 2")),
    "block_alphas": (LORA, ("1,2", "2,1")),
    "block_dims": (LORA, ("1,2", "2,1")),
    "block_lr_zero_threshold": (LORA, ("0.1", "0.2")),
    "bypass_mode": (LOCON, (False, True)),
    "constrain": ({"LoRA_type": "LyCORIS/Diag-OFT"}, (1, 2)),
    "conv_alpha": (LOCON, (1, 2)),
    "conv_alphas": (LORA, ("1,2", "2,1")),
    "conv_block_alphas": (LORA, ("1,2", "2,1")),
    "conv_block_dims": (LORA, ("1,2", "2,1")),
    "conv_dim": (LOCON, (1, 2)),
    "conv_dims": (LORA, ("1,2", "2,1")),
    "decompose_both": (LOKR, (False, True)),
    "dora_wd": (LOCON, (False, True)),
    "down_lr_weight": (LORA, ("1,2", "2,1")),
    "epoch": (LORA, (1, 2)),
    "factor": (LOKR, (4, 8)),
    "image_folder": (LORA, TWO_TEXTS),
    "lora_network_weights": (LORA, TWO_TEXTS),
    "LoRA_type": ({}, ("Standard", "LyCORIS/LoHa")),
    "loraplus_lr_ratio": (LORA, (2, 3)),
    "loraplus_text_encoder_lr_ratio": (LORA, (2, 3)),
    "loraplus_unet_lr_ratio": (LORA, (2, 3)),
    "lr_warmup": ({**LORA, "lr_scheduler": "cosine"}, PERCENT),
    "lr_warmup_steps": ({**LORA, "lr_scheduler": "cosine"}, PERCENT),
    "LyCORIS_preset": (LOCON, ("full", "attn-mlp")),
    "max_resolution": (LORA, ("512,512", "768,768")),
    "mid_lr_weight": (LORA, ("1", "2")),
    "module_dropout": (LORA, (0.1, 0.2)),
    "noise_offset_type": ({**LORA, "noise_offset": 0.1, "multires_noise_iterations": 6}, ("Original", "Multires")),
    "optimizer": (LORA, ("AdamW", "Prodigy")),
    "rank_dropout": (LORA, (0.1, 0.2)),
    "rank_dropout_scale": (LOCON, (False, True)),
    "rescaled": ({"LoRA_type": "LyCORIS/Diag-OFT"}, (False, True)),
    "sdxl_cache_text_encoder_outputs": ({**LORA, "sdxl": True}, (False, True)),
    "stop_text_encoder_training": (WHOLE, (10, 20)),
    "stop_text_encoder_training_pct": (WHOLE, (10, 20)),
    "train_norm": (LOCON, (False, True)),
    "train_on_input": ({"LoRA_type": "LyCORIS/iA3"}, (False, True)),
    "unit": ({"LoRA_type": "LyCORIS/DyLoRA"}, (1, 2)),
    "up_lr_weight": (LORA, ("1,2", "2,1")),
    "use_cp": (LOKR, (False, True)),
    "use_scalar": (LOCON, (False, True)),
    "use_tucker": (LOCON, (False, True)),
}


@pytest.mark.parametrize("key", honoured("gui"))
def test_a_name_of_the_gui_is_read(key: str, tmp_path: Path) -> None:
    beside, values = GUI[key]
    found = []
    for value in values:
        (tmp_path / "x.json").write_text(json.dumps({"seed": 1, **beside, key: value}), encoding="utf-8")
        found.append(told(read_any(tmp_path / "x.json")))
    assert found[0] != found[1]


# -- the metadata of a LoRA file --------------------------------------------------------------------------------------

SUBSET = '[{{"resolution": [{0}, {0}], "subsets": [{{"flip_aug": true}}]}}]'
METADATA: dict[str, tuple[dict[str, str], tuple[str, str]]] = {
    "ss_resolution": ({}, ("(512, 512)", "(768, 768)")),
    "ss_network_args": ({}, ('{"rank_dropout": "0.1"}', '{"rank_dropout": "0.2"}')),
    "ss_network_module": ({}, ("networks.lora", "lycoris.kohya")),
    "ss_optimizer": ({}, ("torch.optim.AdamW(eps=1)", "prodigyopt.Prodigy(eps=1)")),
    "ss_datasets": ({}, (SUBSET.format(512), SUBSET.format(768))),
    "ss_lr_scheduler": ({}, ("linear", "cosine")),
    "ss_lr_warmup_steps": ({"ss_lr_scheduler": "linear"}, ("2", "3")),
    "ss_max_bucket_reso": ({}, ("512", "768")),
    "ss_max_token_length": ({}, ("150", "225")),
    "modelspec.timestep_range": ({}, ("0,100", "0,200")),
}


@pytest.mark.parametrize("key", honoured("metadata"))
def test_a_name_in_metadata_is_read(key: str, tmp_path: Path) -> None:
    becomes = table("metadata")[key].becomes
    beside, values = METADATA.get(key) or ({}, tuple(map(str, two_values(DECLARED[becomes]))))
    found = []
    for number, value in enumerate(values):
        path = tmp_path / f"{number}.safetensors"
        metadata = {"ss_network_dim": "4", **beside, key: value}
        save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 3)}, str(path), metadata)
        found.append(told(read_any(path)))
    assert found[0] != found[1]


def test_the_tables_of_these_tests_have_nothing_else() -> None:
    assert set(GUI) == set(honoured("gui"))
    assert set(TRAINING) <= set(honoured("training")) and set(METADATA) <= set(honoured("metadata"))
