"""Train like this file: the settings in a LoRA file's own metadata, read from its header alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from atelier.config.errors import AtelierError
from atelier.config.imports.importer import Imported, import_report, read_any
from atelier.config.kohya.verdicts import HONOURED, WITHOUT_EFFECT

KOHYA = {
    "ss_output_name": "cat", "ss_learning_rate": "0.0001", "ss_unet_lr": "0.0002", "ss_text_encoder_lr": "5e-05",
    "ss_network_module": "networks.lora", "ss_network_dim": "32", "ss_network_alpha": "16.0",
    "ss_network_args": json.dumps({"conv_dim": "8", "conv_alpha": "4", "rank_dropout": 0.1}),
    "ss_network_dropout": "None",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
    "ss_lr_scheduler": "cosine", "ss_lr_warmup_steps": "100", "ss_max_train_steps": "1500", "ss_num_epochs": "10",
    "ss_mixed_precision": "fp16", "ss_clip_skip": "2", "ss_max_token_length": "225", "ss_seed": "42",
    "ss_noise_offset": "None", "ss_min_snr_gamma": "5.0", "ss_debiased_estimation": "False",
    "ss_gradient_checkpointing": "True", "ss_prior_loss_weight": "1.0", "ss_v2": "False", "ss_epoch": "10",
    "ss_datasets": json.dumps([{
        "resolution": [512, 768], "batch_size_per_device": 4, "enable_bucket": True, "min_bucket_reso": 256,
        "max_bucket_reso": 1024,
        "subsets": [{"is_reg": False, "shuffle_caption": True, "keep_tokens": 1, "flip_aug": True, "num_repeats": 10}],
    }]),
    "ss_dataset_dirs": "{}", "sshs_model_hash": "abc", "modelspec.title": "The cat", "modelspec.trigger_phrase": "sks",
    "modelspec.timestep_range": "0,1000",
}  # fmt: skip


def write(path: Path, metadata: dict[str, str] | None, shapes: dict[str, list[int]] | None = None) -> Path:
    """A safetensors file with a header alone; its tensors are never read."""
    header: dict[str, object] = {
        name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in (shapes or {}).items()
    }
    if metadata is not None:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def read(tmp_path: Path, metadata: dict[str, str]) -> Imported:
    return read_any(write(tmp_path / "a.safetensors", metadata))


def test_kohyas_metadata(tmp_path: Path) -> None:
    found = read(tmp_path, KOHYA)
    settings = found.settings
    assert found.problems == []
    assert (settings.learning_rate, settings.unet_lr, settings.text_encoder_lr) == (1e-4, 2e-4, [5e-5])
    assert (settings.network_dim, settings.network_alpha, settings.conv_dim) == (32, 16.0, 8)
    assert settings.network_args == ["rank_dropout=0.1"] and settings.network_dropout is None
    assert settings.optimizer_type == "AdamW8bit"
    assert settings.optimizer_args == ["weight_decay=0.1", "betas=(0.9,0.99)"]
    assert (settings.max_train_steps, settings.max_train_epochs, settings.lr_warmup_steps) == (1500, None, 100)
    assert (settings.clip_skip, settings.max_token_length, settings.seed) == (2, 225, 42)
    assert (settings.resolution, settings.train_batch_size, settings.enable_bucket) == ("512,768", 4, True)
    assert (settings.shuffle_caption, settings.keep_tokens, settings.flip_aug) == (True, 1, True)
    assert (settings.trigger, settings.metadata_title, settings.max_timestep) == ("sks", "The cat", 1000)
    assert settings.gradient_checkpointing is True and settings.debiased_estimation_loss is False
    assert settings.train_whole_model is False and found.datasets is None


def test_every_key_has_a_verdict_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, {**KOHYA, "ss_new_thing": "1"})
    assert [item.key for item in found.keys] == [*KOHYA, "ss_new_thing"]
    by_key = {item.key: item.verdict for item in found.keys}
    assert by_key["ss_learning_rate"] == HONOURED and by_key["ss_dataset_dirs"] == WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("torch.optim.adamw.AdamW", "AdamW", []),
        ("AdamW", "AdamW", []),
        ("prodigyopt.prodigy.Prodigy(decouple=True,d_coef=2)", "Prodigy", ["decouple=True", "d_coef=2"]),
        ("transformers.optimization.Adafactor(relative_step=False)", "Adafactor", ["relative_step=False"]),
        ("something ( odd", "AdamW", []),
    ],
)
def test_optimisers(tmp_path: Path, text: str, name: str, arguments: list[str]) -> None:
    settings = read(tmp_path, {"ss_network_dim": "4", "ss_optimizer": text}).settings
    assert (settings.optimizer_type, settings.optimizer_args) == (name, arguments)


@pytest.mark.parametrize("text", ["(512, 512)", "512,512", "[512, 512]"])
def test_sizes_in_every_way_of_writing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, {"ss_network_dim": "4", "ss_resolution": text}).settings.resolution == "512,512"


def test_broken_tables_in_it_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, {"ss_network_args": "{", "ss_datasets": "[1]", "ss_network_dim": "x"})
    assert any("ss_network_args" in note for note in found.notes) and any("ss_datasets" in note for note in found.notes)
    assert found.problems == ["a.safetensors: ss_network_dim is 'x'; it must be a whole number."]


def test_a_file_without_metadata_still_tells_its_rank(tmp_path: Path) -> None:
    shapes = {"lora_unet_a.lora_down.weight": [12, 320], "lora_unet_b.lora_down.weight": [12, 320],
              "lora_unet_c.lora_down.weight": [6, 320, 3, 3], "lora_unet_a.lora_up.weight": [320, 12]}  # fmt: skip
    settings = read_any(write(tmp_path / "a.safetensors", None, shapes)).settings
    assert (settings.network_dim, settings.conv_dim) == (12, 6)


def test_a_checkpoint_holds_no_settings(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="has no training settings"):
        read_any(write(tmp_path / "a.safetensors", {"format": "pt"}, {"model.diffusion_model.x": [1]}))


@pytest.mark.parametrize("data", [
    b"", b"123", b"\xff" * 8, struct.pack("<Q", 10) + b"{}", struct.pack("<Q", 2) + b"[]",
    struct.pack("<Q", 4) + b"\xff" * 4, struct.pack("<Q", 1 << 60) + b"{}",
])  # fmt: skip
def test_what_is_no_safetensors_is_reported(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    report = import_report(tmp_path / "a.safetensors")
    assert report["usable"] is False and "safetensors" in report["problems"][0]


def test_what_is_switched_off_takes_nothing_away(tmp_path: Path) -> None:
    for value, verdict in (("False", WITHOUT_EFFECT), ("True", "not supported")):
        found = read(tmp_path, {"ss_full_fp16": value, "ss_network_dim": "2"})
        assert {key.key: key.verdict for key in found.keys}["ss_full_fp16"] == verdict
