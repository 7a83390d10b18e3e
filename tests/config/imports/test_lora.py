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


def with_tensors(path: Path, metadata: dict[str, str], layers: dict[str, tuple[list[int], float, str]]) -> Path:
    """A LoRA file with data: by layer the shape of lora_down, the alpha, and the precision of the alpha."""
    header: dict[str, object] = {"__metadata__": metadata}
    data = b""
    for layer, (shape, alpha, dtype) in layers.items():
        header[f"{layer}.lora_down.weight"] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data)]}
        number = {"F32": struct.pack("<f", alpha), "F16": struct.pack("<e", alpha),
                  "BF16": struct.pack("<f", alpha)[2:], "F64": struct.pack("<d", alpha)}[dtype]  # fmt: skip
        place = [len(data), len(data) + len(number)]
        header[f"{layer}.alpha"] = {"dtype": dtype, "shape": [], "data_offsets": place}
        data += number
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_the_rank_of_a_resized_file_is_that_of_its_tensors(tmp_path: Path, dtype: str) -> None:
    """kohya's tools write "Dynamic" where each layer has a rank of its own; alpha goes with it."""
    layers = {
        "lora_unet_a": ([4, 320], 2.0, dtype), "lora_unet_b": ([12, 320], 6.0, dtype),
        "lora_unet_c": ([1, 320], 0.5, dtype), "lora_unet_d": ([6, 320, 3, 3], 1.5, dtype),
    }  # fmt: skip
    metadata = {**KOHYA, "ss_network_dim": "Dynamic", "ss_network_alpha": "Dynamic"}
    found = read_any(with_tensors(tmp_path / "a.safetensors", metadata, layers))
    assert found.problems == [] and found.usable
    settings = found.settings
    assert (settings.network_dim, settings.network_alpha) == (12, 6.0)
    assert (settings.conv_dim, settings.conv_alpha, settings.network_args) == (6, 1.5, ["rank_dropout=0.1"])
    by_key = {key.key: key for key in found.keys}
    assert by_key["ss_network_dim"].verdict == HONOURED and by_key["ss_network_dim"].value == "Dynamic"
    assert by_key["ss_network_dim"].note == "Its layers have ranks from 1 to 12; the largest is taken."
    assert by_key["ss_network_alpha"].verdict == HONOURED


@pytest.mark.parametrize(
    ("dim", "alpha", "expected"),
    [("8", "4.0", (8, 4.0)), ("8", "Dynamic", (8, 4.0)), ("Dynamic", "3.0", (4, 3.0)), ("None", "None", (4, 2.0)),
     (None, None, (4, 2.0)), ("nan", "inf", (4, 2.0)), ("4,8", "", (4, 2.0))],
)  # fmt: skip
def test_metadata_with_numbers_win_over_the_tensors(
    tmp_path: Path, dim: str | None, alpha: str | None, expected: tuple[int, float]
) -> None:
    stated = {"ss_network_dim": dim, "ss_network_alpha": alpha, "ss_seed": "1"}
    metadata = {key: value for key, value in stated.items() if value is not None}
    found = read_any(with_tensors(tmp_path / "a.safetensors", metadata, {"lora_unet_a": ([4, 320], 2.0, "F32")}))
    assert found.problems == []
    assert (found.settings.network_dim, found.settings.network_alpha) == expected


def test_without_an_alpha_it_is_the_rank(tmp_path: Path) -> None:
    shapes = {"unet.a.lora_A.weight": [4, 320], "unet.a.lora_B.weight": [320, 4]}
    settings = read_any(write(tmp_path / "a.safetensors", None, shapes)).settings
    assert (settings.network_dim, settings.network_alpha) == (4, 4.0)


def test_ranks_of_loha_and_lokr_are_read_too(tmp_path: Path) -> None:
    for name in ("hada_w1_b", "lokr_w2_b"):
        path = write(tmp_path / "a.safetensors", {"ss_network_dim": "Dynamic"}, {f"lora_unet_a.{name}": [6, 320]})
        assert read_any(path).settings.network_dim == 6


def test_an_absurd_rank_is_not_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.safetensors", {"ss_network_dim": "Dynamic"}, {"lora_unet_a.lora_down.weight": [10**400, 2]}
    )
    assert read_any(path).problems == ["a.safetensors: ss_network_dim is 'Dynamic'; it must be a whole number."]


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
