"""kohya_ss GUI presets: the GUI's names, units, types and quirks as sd-scripts would be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atelier.config.imports.importer import Imported, import_report, read_any
from atelier.config.job import job_to_dict
from atelier.config.kohya.verdicts import UNKNOWN, WITHOUT_EFFECT, WRONG

LORA: dict[str, Any] = {
    "LoRA_type": "Standard", "learning_rate": "0.0001", "unet_lr": 0.0001, "text_encoder_lr": "5e-05",
    "network_dim": "32", "network_alpha": 16, "optimizer": "AdamW8bit", "optimizer_args": "", "epoch": "4",
    "max_train_steps": "", "max_train_epochs": 0, "lr_scheduler": "cosine", "lr_warmup": "10",
    "max_resolution": "512,768", "seed": "0", "clip_skip": 0, "save_every_n_steps": 0, "max_token_length": "75",
    "xformers": "xformers", "noise_offset_type": "Original", "noise_offset": "0.05", "multires_noise_iterations": 6,
    "flux1_checkbox": False, "t5xxl": "", "sample_prompts": "a cat --w 512\na dog",
}  # fmt: skip


def read(tmp_path: Path, preset: dict[str, Any] | str) -> Imported:
    path = tmp_path / "preset.json"
    path.write_text(preset if isinstance(preset, str) else json.dumps(preset), encoding="utf-8")
    return read_any(path)


def verdict(found: Imported, key: str) -> str:
    return next(item.verdict for item in found.keys if item.key == key)


def test_a_usual_preset(tmp_path: Path) -> None:
    found = read(tmp_path, LORA)
    settings = found.settings
    assert found.problems == [] and found.usable
    assert (settings.learning_rate, settings.unet_lr, settings.text_encoder_lr) == (1e-4, 1e-4, [5e-5])
    assert (settings.network_module, settings.network_dim, settings.network_alpha) == ("networks.lora", 32, 16.0)
    assert (settings.optimizer_type, settings.optimizer_args) == ("AdamW8bit", [])
    assert (settings.max_train_epochs, settings.lr_warmup_steps, settings.resolution) == (4, 0.1, "512,768")
    assert (settings.seed, settings.clip_skip, settings.save_every_n_steps) == (None, None, None)
    assert (settings.noise_offset, settings.multires_noise_iterations) == (0.05, None)
    assert settings.sample_prompts == "a cat --w 512\na dog"
    assert found.extra == {"xformers": True}


def test_keys_kept_for_export_have_the_kind_sd_scripts_reads(tmp_path: Path) -> None:
    found = read(tmp_path, {**LORA, "max_data_loader_n_workers": "2", "persistent_data_loader_workers": "1",
                            "logging_dir": "12", "ddp_timeout": "soon"})  # fmt: skip
    assert found.extra == {"xformers": True, "max_data_loader_n_workers": 2, "persistent_data_loader_workers": True,
                           "logging_dir": "12"}  # fmt: skip
    assert found.usable and any("ddp_timeout" in note for note in found.notes)


def test_every_key_comes_back_once_in_its_order_with_its_value(tmp_path: Path) -> None:
    found = read(tmp_path, LORA)
    assert [item.key for item in found.keys] == list(LORA)
    assert {item.key: item.value for item in found.keys} == LORA


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"text_encoder_lr": 0}, {"network_train_unet_only": True}),
        ({"unet_lr": "0"}, {"network_train_text_encoder_only": True}),
        ({"unet_lr": 0, "text_encoder_lr": ""}, {"unet_lr": None, "text_encoder_lr": []}),
        ({"max_train_steps": 900}, {"max_train_steps": 900, "max_train_epochs": None}),
        ({"max_train_steps": 900, "max_train_epochs": 7}, {"max_train_epochs": 7}),
        ({"lr_warmup_steps": 120}, {"lr_warmup_steps": 120}),
        ({"lr_scheduler": "constant"}, {"lr_warmup_steps": 0}),
        ({"noise_offset_type": "Multires"}, {"noise_offset": None, "multires_noise_iterations": 6}),
        ({"optimizer_args": 'weight_decay=0.1 betas="0.9,0.99"'},
         {"optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99"]}),
        ({"additional_parameters": '--max_grad_norm=0 --caption_prefix "a photo" --zero_terminal_snr'},
         {"max_grad_norm": 0.0, "caption_prefix": "a photo", "zero_terminal_snr": True}),
        ({"sdxl": True, "sdxl_no_half_vae": True, "sdxl_cache_text_encoder_outputs": True},
         {"no_half_vae": True, "cache_text_encoder_outputs": True}),
        ({"sdxl": False, "sdxl_no_half_vae": True}, {"no_half_vae": False}),
        ({"bucket_reso_steps": 1}, {"bucket_reso_steps": 8}),
        ({"save_model_as": "same as source model"}, {"save_model_as": "safetensors"}),
        ({"use_8bit_adam": True, "optimizer": ""}, {"optimizer_type": "AdamW8bit"}),
        ({"train_data_dir": "D:\\pics\\cat", "lora_network_weights": "E:/a b.safetensors"},
         {"train_data_dir": "D:\\pics\\cat", "network_weights": "E:/a b.safetensors"}),
        ({"keep_tokens": 1.0, "cache_latents": 1, "shuffle_caption": "True"},
         {"keep_tokens": 1, "cache_latents": True, "shuffle_caption": True}),
    ],
)  # fmt: skip
def test_names_units_and_types(tmp_path: Path, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = read(tmp_path, {**LORA, **changes})
    assert found.problems == []
    assert {key: getattr(found.settings, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("preset", "module", "conv_dim", "arguments"),
    [
        ({"LoRA_type": "Standard", "conv_dim": 8, "rank_dropout": 0.1, "block_dims": "1, 2"},
         "networks.lora", None, {"rank_dropout=0.1", "block_dims=1,2"}),
        ({"LoRA_type": "Kohya LoCon", "conv_dim": "8", "conv_alpha": "4", "rank_dropout": 0},
         "networks.lora", 8, set()),
        ({"LoRA_type": "LyCORIS/LoHa", "conv_dim": 8, "LyCORIS_preset": "attn-mlp", "use_tucker": True, "factor": 4},
         "lycoris.kohya", 8, {"algo=loha", "preset=attn-mlp", "use_tucker=True"}),
        ({"LoRA_type": "LyCORIS/LoKr", "factor": 8, "decompose_both": True, "conv_dim": 0},
         "lycoris.kohya", None, {"algo=lokr", "factor=8", "decompose_both=True"}),
        ({"LoRA_type": "LyCORIS/LoKr", "factor": -1}, "lycoris.kohya", None, {"algo=lokr"}),
        ({"LoRA_type": "LyCORIS/LoCon", "dora_wd": True}, "lycoris.kohya", None, {"algo=locon", "dora_wd=True"}),
        ({"LoRA_type": "LyCORIS/iA3", "train_on_input": True}, "lycoris.kohya", None,
         {"algo=ia3", "train_on_input=True"}),
        ({"LoRA_type": "LyCORIS/Diag-OFT", "constrain": 0.001}, "lycoris.kohya", None,
         {"algo=diag-oft", "constraint=0.001"}),
        ({"LoRA_type": "Kohya LoHa", "loraplus_lr_ratio": 4}, "lycoris.kohya", None,
         {"algo=loha", "loraplus_lr_ratio=4"}),
        ({"LoRA_type": "Standard", "down_lr_weight": "0,0,1", "unit": 2}, "networks.lora", None,
         {"down_lr_weight=0,0,1"}),
    ],
)  # fmt: skip
def test_kinds_of_adapter(
    tmp_path: Path, preset: dict[str, Any], module: str, conv_dim: int | None, arguments: set[str]
) -> None:
    found = read(tmp_path, preset)
    assert found.problems == []
    assert (found.settings.network_module, found.settings.conv_dim) == (module, conv_dim)
    assert set(found.settings.network_args) == arguments
    assert found.settings.train_whole_model is False


@pytest.mark.parametrize(
    ("unet", "text", "only"),
    [
        (1e-4, "0", "unet"), ("1e-4", 0, "unet"), ("1e-4", "", "unet"), ("0", "5e-5", "text"), ("", 5e-5, "text"),
        ("", "0", ""), (0, "0", ""), ("0", "", ""), ("", "", ""), (1e-4, 5e-5, ""), ("fast", "0", ""),
    ],
)  # fmt: skip
def test_a_rate_of_zero_leaves_a_part_out_only_beside_one_that_trains(
    tmp_path: Path, unet: str | float, text: str | float, only: str
) -> None:
    """Where neither part has a rate of its own, both are trained with the learning rate."""
    found = read(tmp_path, {**LORA, "unet_lr": unet, "text_encoder_lr": text})
    assert found.settings.network_train_unet_only is (only == "unet")
    assert found.settings.network_train_text_encoder_only is (only == "text")
    assert found.usable is (unet != "fast")


@pytest.mark.parametrize(
    ("steps", "percent", "expected"),
    [
        (1001, 15, 151),
        ("1000", "20", 200),
        (999, 1, 10),
        (1000, 12.5, 125),
        (50, 100, 50),
        (1000, -1, -1),
        (1000, 0, 0),
    ],
)
def test_a_part_of_a_step_is_a_whole_one(tmp_path: Path, steps: str | int, percent: str | float, expected: int) -> None:
    """15 % of 1001 steps are 150.15: as the GUI does, the text encoder stops after the 151st."""
    preset = {"learning_rate": "1e-6", "max_train_steps": steps, "stop_text_encoder_training": percent}
    assert (read(tmp_path, preset).settings.stop_text_encoder_training or 0) == expected


def test_a_preset_without_a_lora_type_trains_the_whole_model(tmp_path: Path) -> None:
    preset = {"learning_rate": "1e-6", "learning_rate_te": 5e-7, "max_train_steps": "1000", "epoch": 1,
              "stop_text_encoder_training": "20", "max_resolution": 512}  # fmt: skip
    settings = read(tmp_path, preset).settings
    assert settings.train_whole_model is True
    assert (settings.learning_rate_te, settings.stop_text_encoder_training) == (5e-7, 200)
    without_steps = read(tmp_path, {**preset, "max_train_steps": ""})
    assert without_steps.settings.stop_text_encoder_training is None
    assert verdict(without_steps, "stop_text_encoder_training") == "not supported"


@pytest.mark.parametrize(
    ("preset", "sentence"),
    [
        ({**LORA, "flux1_checkbox": True, "t5xxl": "x"}, "trains Flux"),
        ({**LORA, "LoRA_type": "Flux1"}, "another model family; only Stable Diffusion 1, 2 and XL can be trained"),
        ({**LORA, "LoRA_type": "LyCORIS/LoKrr"}, "did you mean LyCORIS/LoKr?"),
        ({"token_string": "sks", "init_word": "*", "optimizer": "AdamW"}, "textual inversion"),
        ({**LORA, "learning_rate": "fast"}, "learning_rate is 'fast'; it must be a number"),
        ({**LORA, "network_dim": 9000}, "it must be at most 1024"),
        ({**LORA, "lr_warmup": "ten"}, "lr_warmup is 'ten'"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path: Path, preset: dict[str, Any], sentence: str) -> None:
    found = read(tmp_path, preset)
    assert not found.usable
    assert any(sentence in problem for problem in found.problems), found.problems
    assert {item.key for item in found.keys} == set(preset)


def test_a_wrong_value_is_marked_and_an_unknown_key_named(tmp_path: Path) -> None:
    found = read(tmp_path, {**LORA, "max_resolution": "big", "learning_rte": 1})
    assert verdict(found, "max_resolution") == WRONG
    assert verdict(found, "learning_rte") == UNKNOWN
    assert any("did you mean learning_rate" in note for note in found.notes)


def test_keys_are_not_told_to_the_world(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({**LORA, "huggingface_token": "hf_abc", "wandb_api_key": "w123"}))
    report = json.dumps(import_report(tmp_path / "p.json"))
    assert "hf_abc" not in report and "w123" not in report
    given = "--wandb_api_key w123 --huggingface_token='hf_abc def' --clip_skip 2"
    (tmp_path / "p.json").write_text(json.dumps({**LORA, "additional_parameters": given}))
    found = read_any(tmp_path / "p.json")
    report = json.dumps([import_report(tmp_path / "p.json"), job_to_dict(found.job())])
    assert not any(secret in report for secret in ("hf_abc", "def'", "w123")) and found.settings.clip_skip == 2


def test_a_training_files_keys_are_neither_told_nor_kept(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        'network_module = "networks.lora"\nwandb_api_key = "w123"\nhuggingface_token = "hf_abc"\nlog_with = "wandb"\n'
    )
    found = read_any(tmp_path / "x.toml")
    assert found.usable and found.extra == {"log_with": "wandb"}
    assert verdict(found, "wandb_api_key") == WITHOUT_EFFECT
    assert any("wandb_api_key is secret and is not kept" in note for note in found.notes)
    told = json.dumps([import_report(tmp_path / "x.toml"), job_to_dict(found.job())])
    assert "hf_abc" not in told and "w123" not in told


def test_the_guis_own_toml_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        "[basic]\nepoch = 3\nlr_warmup = 10\nlr_scheduler = 'cosine'\nmax_resolution = '768,768'\noptimizer = 'Lion'\n"
        "[lora]\nLoRA_type = 'Standard'\nnetwork_dim = 4\n"
    )
    found = read_any(tmp_path / "config.toml")
    assert found.usable and found.kind == "kohya_ss GUI config"
    assert (found.settings.max_train_epochs, found.settings.optimizer_type) == (3, "Lion")


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["noise_offset_type = 'Original'"], "sd-scripts training TOML"),
        (["epoch = 3"], "sd-scripts training TOML"),
        (["epoch = 3", "optimizer = 'Lion'"], "sd-scripts training TOML"),
        (["epoch = 3", "optimizer = 'Lion'", "lr_warmup = 10"], "kohya_ss GUI config"),
        (["network_module = 'networks.lora'", "epoch = 3", "optimizer = 'Lion'", "lr_warmup = 10"],
         "sd-scripts training TOML"),
    ],
)  # fmt: skip
def test_a_name_or_two_of_the_guis_make_no_gui_file(tmp_path: Path, lines: list[str], kind: str) -> None:
    """They may be mistakes in a training TOML; read as the GUI's, train_batch_size and all would mean other things."""
    (tmp_path / "a.toml").write_text("learning_rate = 3e-4\nmax_train_epochs = 0\n" + "\n".join(lines))
    found = read_any(tmp_path / "a.toml")
    assert found.kind == kind
    if kind == "sd-scripts training TOML":
        assert found.settings.max_train_epochs is None and verdict(found, lines[-1].split()[0]) == UNKNOWN
    else:
        assert found.settings.max_train_epochs == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '"text"', "null", "{}", '{"a": 1}', '{"/x/1.png": {"caption": "a"}}', "{" * 5000, "NaN"]
)
def test_what_is_no_preset_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text)
    report = import_report(tmp_path / "p.json")
    assert report["usable"] is False and report["problems"]


def test_settings_of_a_flow_are_left_out_of_a_preset_for_stable_diffusion(tmp_path: Path) -> None:
    """The GUI writes the fields of every model, and hands those of Flux and SD3 to their own scripts alone."""
    given = {"timestep_sampling": "shift", "discrete_flow_shift": 3.0, "weighting_scheme": "logit_normal"}
    found = read(tmp_path, {**LORA, **given})
    assert {verdict(found, key) for key in given} == {WITHOUT_EFFECT}
    assert (found.settings.timestep_sampling, found.settings.weighting_scheme) == (None, "none")
