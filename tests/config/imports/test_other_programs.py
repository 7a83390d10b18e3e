"""Settings of programs that are not kohya's: read where they are plain, else refused by the program's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from atelier.config.imports.importer import import_report, read_any
from atelier.config.imports.loading import load_job

EASY = """
[[subsets]]
image_dir = "pictures"
name = "faces"
num_repeats = 5
keep_tokens = 2
caption_extension = ".txt"
shuffle_caption = true

[train_mode]
train_mode = "lora"
[general_args.args]
mixed_precision = "no"
seed = 7
max_train_epochs = 3
[general_args.dataset_args]
resolution = 64
batch_size = 2
[network_args.args]
network_dim = 4
network_alpha = 2.0
[network_args.args.network_args]
conv_dim = 8
conv_alpha = 1.0
[optimizer_args.args]
optimizer_type = "AdamW"
lr_scheduler = "cosine"
learning_rate = 0.001
warmup_ratio = 0.1
[optimizer_args.args.optimizer_args]
weight_decay = 0.02
betas = "0.9,0.95"
[saving_args.args]
output_name = "easy"
save_toml = true
[bucket_args.dataset_args]
enable_bucket = true
min_bucket_reso = 32
"""


def written(folder: Path, name: str, content: Any) -> Path:
    (folder / "pictures").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_lora_easy_training_scripts(tmp_path: Path) -> None:
    found = read_any(written(tmp_path, "easy.toml", EASY))
    assert found.kind == "LoRA_Easy_Training_Scripts TOML" and found.usable, found.problems
    settings = found.settings
    assert settings.optimizer_args == ["weight_decay=0.02", "betas=0.9,0.95"]
    assert (settings.network_dim, settings.network_alpha, settings.conv_dim, settings.conv_alpha) == (4, 2.0, 8, 1.0)
    assert (settings.lr_warmup_steps, settings.max_train_epochs, settings.network_module) == (0.1, 3, "networks.lora")
    assert (settings.resolution, settings.train_batch_size) == ("64", 2)
    job = load_job(tmp_path / "easy.toml")
    (dataset,) = job.datasets.datasets
    assert (dataset.resolution, dataset.batch_size, dataset.min_bucket_reso) == ((64, 64), 2, 32)
    (subset,) = dataset.subsets
    assert (subset.num_repeats, subset.keep_tokens, subset.shuffle_caption) == (5, 2, True)
    assert Path(subset.image_dir) == tmp_path / "pictures"


@pytest.mark.parametrize(
    ("arguments", "module"),
    [('algo = "loha"', "lycoris.kohya"), ("conv_dim = 4", "networks.lora"), ("unit = 4", "networks.lora")],
)
def test_its_arguments_choose_the_module(arguments: str, module: str, tmp_path: Path) -> None:
    text = f"[network_args.args]\nnetwork_dim = 4\n[network_args.args.network_args]\n{arguments}\n"
    found = read_any(written(tmp_path, "x.toml", text + "[bucket_args.dataset_args]\nenable_bucket = true\n"))
    assert found.usable and found.settings.network_module == module


def test_its_older_json_is_a_lora_with_all_that_it_says(tmp_path: Path) -> None:
    """It was taken for a preset of the GUI without LoRA_type: the whole model, and rank, size and pictures lost."""
    older = {
        "base_model": "m.safetensors", "img_folder": "pictures", "output_folder": "out", "change_output_name": "face",
        "net_dim": 32, "alpha": 16, "scheduler": "cosine", "cosine_restarts": None, "warmup_lr_ratio": 0.05,
        "learning_rate": 1e-4, "unet_lr": None, "batch_size": 2, "num_epochs": 10, "max_steps": None,
        "shuffle_captions": True, "train_resolution": 512, "buckets": True, "test_seed": 23, "use_8bit_adam": True,
        "gradient_acc_steps": None, "save_as": "safetensors", "max_clip_token_length": 150, "xformers": True,
        "lora_model_for_resume": None, "load_previous_save_state": None,
    }  # fmt: skip
    found = read_any(written(tmp_path, "x.json", older))
    assert found.kind == "LoRA_Easy_Training_Scripts JSON" and found.usable, found.problems
    assert found.values == {
        "pretrained_model_name_or_path": "m.safetensors", "train_data_dir": "pictures", "output_dir": "out",
        "output_name": "face", "network_dim": 32, "network_alpha": 16.0, "lr_scheduler": "cosine",
        "lr_warmup_steps": 0.05, "learning_rate": 1e-4, "train_batch_size": 2, "max_train_epochs": 10,
        "shuffle_caption": True, "resolution": "512", "enable_bucket": True, "seed": 23, "save_model_as": "safetensors",
        "max_token_length": 150, "optimizer_type": "AdamW8bit", "network_module": "networks.lora",
    }  # fmt: skip
    assert not any(key.verdict in ("unknown", "not supported") for key in found.keys)


def test_arguments_as_a_table_in_any_toml(tmp_path: Path) -> None:
    for head in ("[optimizer_args]", "[optimizer.optimizer_args]"):
        found = read_any(written(tmp_path, "x.toml", f"seed = 1\n{head}\nweight_decay = 0.02\nbetas = [0.9, 0.95]\n"))
        assert found.settings.optimizer_args == ["weight_decay=0.02", "betas=0.9,0.95"]


TRAINTRAIN = {
    "mode": "LoRA", "model": "base", "vae": "None", "network_type": "c3lier", "network_rank": 16, "network_alpha": 8,
    "train_learning_rate": "1e-4", "train_iterations": 500, "train_batch_size": 2, "image_size": "512,768",
    "lora_data_directory": "pictures", "lora_trigger_word": "zwx", "train_optimizer": "adamw8bit", "train_seed": -1,
    "train_lr_scheduler": "cosine_with_restarts", "train_model_precision": "bf16", "diff_target_name": "",
}  # fmt: skip
ONETRAINER = {
    "__version": 10, "training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "base_model_name": "base",
    "lora_rank": 16, "lora_alpha": 1.0, "learning_rate": 0.0003, "batch_size": 2, "resolution": "512", "epochs": 30,
    "learning_rate_scheduler": "COSINE", "learning_rate_warmup_steps": 200.0, "train_dtype": "BFLOAT_16",
    "output_model_destination": "models/face.safetensors", "concepts": [{"path": "pictures"}],
    "optimizer": {"optimizer": "ADAMW", "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": None},
    "text_encoder": {"train": False}, "text_encoder_layer_skip": 1, "ema": "OFF",
}  # fmt: skip
DIFFUSION_PIPE = {
    "output_dir": "out", "dataset": "dataset.toml", "epochs": 40, "micro_batch_size_per_gpu": 2, "pipeline_stages": 1,
    "warmup_steps": 100, "model": {"type": "sdxl", "checkpoint_path": "base.safetensors", "dtype": "bfloat16"},
    "adapter": {"type": "lora", "rank": 32}, "optimizer": {"type": "adamw_optimi", "lr": 4e-5, "betas": [0.9, 0.99]},
}  # fmt: skip


def test_traintrain(tmp_path: Path) -> None:
    found = read_any(written(tmp_path, "x.json", TRAINTRAIN))
    assert found.kind == "traintrain preset" and found.usable, found.problems
    assert found.values == {
        "pretrained_model_name_or_path": "base", "network_dim": 16, "network_alpha": 8.0, "learning_rate": 1e-4,
        "max_train_steps": 500, "train_batch_size": 2, "resolution": "768,512", "train_data_dir": "pictures",
        "trigger": "zwx", "optimizer_type": "AdamW8bit", "lr_scheduler": "cosine_with_restarts",
        "mixed_precision": "bf16", "network_module": "networks.lora", "conv_dim": 16, "conv_alpha": 8.0,
    }  # fmt: skip


def test_onetrainer(tmp_path: Path) -> None:
    found = read_any(written(tmp_path, "x.json", ONETRAINER))
    assert found.kind == "OneTrainer config" and found.usable, found.problems
    assert found.values == {
        "pretrained_model_name_or_path": "base", "network_dim": 16, "network_alpha": 1.0, "learning_rate": 3e-4,
        "train_batch_size": 2, "resolution": "512", "max_train_epochs": 30, "lr_scheduler": "cosine",
        "lr_warmup_steps": 200, "mixed_precision": "bf16", "output_name": "face", "train_data_dir": "pictures",
        "optimizer_type": "AdamW", "optimizer_args": ["weight_decay=0.01", "betas=0.9,0.95"],
        "network_module": "networks.lora", "network_train_unet_only": True, "clip_skip": 2,
    }  # fmt: skip


def test_diffusion_pipe(tmp_path: Path) -> None:
    written(tmp_path, "dataset.toml", 'resolutions = [768]\n[[directory]]\npath = "pictures"\nnum_repeats = 3\n')
    found = read_any(written(tmp_path, "x.toml", tomlkit.dumps(DIFFUSION_PIPE)))
    assert found.kind == "diffusion-pipe config" and found.usable, found.problems
    assert found.values == {
        "output_dir": "out", "max_train_epochs": 40, "train_batch_size": 2, "lr_warmup_steps": 100,
        "lr_scheduler": "constant_with_warmup", "pretrained_model_name_or_path": "base.safetensors",
        "mixed_precision": "bf16", "network_module": "networks.lora", "network_dim": 32, "network_alpha": 32.0,
        "optimizer_type": "AdamW", "learning_rate": 4e-5, "optimizer_args": ["betas=0.9,0.99"],
        "resolution": "768", "train_data_dir": "pictures", "dataset_repeats": 3,
    }  # fmt: skip


def test_a_traintrain_preset_as_the_extension_writes_it(tmp_path: Path) -> None:
    """Numbers are text, some names have an explanation behind them, and 0 of the convolutions means the rank."""
    preset = {
        "mode": "LoRA", "network_type": "c3lier", "network_rank": "16", "network_alpha": "8", "network_conv_rank": "0",
        "network_conv_alpha": "4", "image_size(height, width)": "512", "train_iterations": "1000",
        "train_learning_rate": "1e-4", "train_textencoder_learning_rate": "5e-5", "train_lr_scheduler": "constant",
        "train_lr_warmup_steps": "100", "train_optimizer_settings": "weight_decay=0.1;eps=1e-7", "sub_image_num": "0",
        "network_blocks(BASE = TextEncoder)": ["IN01", "M00"], "image_mirroring": True, "save_precision": "fp32",
    }  # fmt: skip
    found = read_any(written(tmp_path, "x.json", preset))
    assert found.usable and found.values == {
        "network_dim": 16, "network_alpha": 8.0, "conv_dim": 16, "conv_alpha": 4.0, "resolution": "512",
        "max_train_steps": 1000, "learning_rate": 1e-4, "text_encoder_lr": [5e-5], "lr_scheduler": "constant",
        "lr_warmup_steps": 0, "optimizer_args": ["weight_decay=0.1", "eps=1e-7"], "network_train_unet_only": True,
        "flip_aug": True, "save_precision": "float", "network_module": "networks.lora",
    }, found.problems  # fmt: skip
    assert "OUT11" in found.notes[0] and not any(key.verdict == "not supported" for key in found.keys)


def test_what_a_onetrainer_preset_leaves_out_has_its_defaults(tmp_path: Path) -> None:
    """They are not those of sd-scripts; and every schedule of OneTrainer has the warm-up, the constant one too."""
    preset = {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE", "learning_rate": 3e-4,
              "text_encoder": {"train": False}, "text_encoder_2": {"train": False}, "vae": {"weight_dtype": "FLOAT_32"},
              "output_model_format": "KOHYA_LORA", "loss_weight_fn": "MIN_SNR_GAMMA", "offset_noise_weight": 0.05,
              "max_noising_strength": 0.8, "unet": {"offload_fraction": 0.5}}  # fmt: skip
    found = read_any(written(tmp_path, "x.json", preset))
    assert found.usable and found.values == {
        "learning_rate": 3e-4, "network_dim": 16, "network_alpha": 1.0, "lr_warmup_steps": 200, "max_train_epochs": 100,
        "resolution": "512", "lr_scheduler": "constant_with_warmup", "network_module": "networks.lora",
        "network_train_unet_only": True, "min_snr_gamma": 5.0, "noise_offset": 0.05, "max_timestep": 800,
    }, found.problems  # fmt: skip
    assert any("lora_rank 16" in note for note in found.notes)
    assert [key.key for key in found.keys if key.verdict == "not supported"] == ["unet.offload_fraction"]


def test_secrets_of_onetrainer_are_not_shown(tmp_path: Path) -> None:
    report = import_report(written(tmp_path, "x.json", {**ONETRAINER, "secrets": {"huggingface_token": "hf_abc"}}))
    assert "hf_abc" not in json.dumps(report)


def test_adafactor_keeps_the_rate_that_onetrainer_gives_it(tmp_path: Path) -> None:
    optimizer = {"optimizer": "ADAFACTOR", "relative_step": False, "eps": 1e-30, "weight_decay": 0.0}
    found = read_any(written(tmp_path, "x.json", {**ONETRAINER, "optimizer": optimizer}))
    assert {"relative_step=False", "scale_parameter=False", "warmup_init=False"} < set(found.settings.optimizer_args)


def test_every_key_of_a_diffusion_pipe_optimizer_reaches_it(tmp_path: Path) -> None:
    config = {**DIFFUSION_PIPE, "lr_scheduler": "constant", "adapter": {"type": "lora", "rank": 8, "odd": 1},
              "optimizer": {"type": "Prodigy", "lr": 1, "d_coef": 2.0, "betas": [0.9, 0.99]}}  # fmt: skip
    found = read_any(written(tmp_path, "x.toml", tomlkit.dumps(config)))
    assert found.usable and found.settings.optimizer_args == ["d_coef=2.0", "betas=0.9,0.99"], found.problems
    assert found.settings.lr_scheduler == "constant_with_warmup"
    assert [key.key for key in found.keys if key.verdict == "not supported"] == ["adapter.odd"]


REFUSED = {
    "traintrain": ("x.json", {**TRAINTRAIN, "mode": "iLECO"}),
    "trains FLUX_DEV_1": ("x.json", {**ONETRAINER, "model_type": "FLUX_DEV_1"}),
    "its EMBEDDING": ("x.json", {**ONETRAINER, "training_method": "EMBEDDING"}),
    "trains wan": ("x.toml", tomlkit.dumps({**DIFFUSION_PIPE, "model": {"type": "wan"}})),
    "ai-toolkit": ("x.json", {"job": "extension", "config": {"process": [{"type": "sd_trainer"}]}}),
    "a file of ai-toolkit in YAML": ("x.yaml", "job: extension\nconfig:\n  process:\n    - type: sd_trainer\n"),
    "SimpleTuner": ("x.json", {"--model_type": "lora", "--model_family": "sdxl"}),
    "ComfyUI": ("x.json", {"nodes": [], "links": [], "last_node_id": 3}),
    "EveryDream2": ("x.json", {"resume_ckpt": "base", "data_root": "pictures", "max_epochs": 3}),
    "a dataset file of diffusion-pipe": (
        "x.toml", 'resolutions = [512]\ncaption_prefix = "a"\n[[directory]]\npath = "p"\n'
    ),
    "is of transformers": ("x.json", {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 30524}),
    "holds no settings": ("x.json", {"COSINE": {"down_lr_weight": [1.0]}}),
    "has captions, not settings": ("x.json", {"a.png": {"caption": "a cat", "train_resolution": [64, 64]}}),
    "latent-diffusion": ("x.yaml", "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n"),
    "a preset of layers": ("x.toml", 'enable_conv = true\nunet_target_module = ["Attention"]\n'),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_others_are_named_in_one_sentence(words: str, tmp_path: Path) -> None:
    name, content = REFUSED[words]
    report = import_report(written(tmp_path, name, content))
    assert not report["usable"] and len(report["problems"]) == 1
    assert words in report["problems"][0] and name in report["problems"][0]
