"""Files made to be slow, large or misleading: each is answered in words and in time, and nothing beside it is read."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from atelier.adapters.layers.presets import read_preset
from atelier.config.errors import AtelierError
from atelier.config.imports.importer import import_report
from atelier.config.imports.lora_metadata import read_header
from atelier.config.job import job_from_dict, job_to_dict
from atelier.config.sample_prompts import read_sample_prompts
from atelier.config.settings.arguments import split_arguments
from atelier.data import images
from atelier.data.images import open_picture, picture_size
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.checkpoints.stated import CONFIG_KEY
from atelier.training.optim.optimizers import parse_arguments
from atelier.ui.gradio_compat import DroppedFile
from atelier.ui.server.uploads import _safe_name, keep_files
from tests.support.models_tiny import tiny_parts

pytestmark = pytest.mark.timeout(60)


def header_file(path: Path, header: dict[str, Any]) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


# -- LoRA files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_optimizer": "A(" + "a" * 3_000_000 + ")"},
        {"ss_network_args": "[" * 200_000},
        {"ss_datasets": "[" * 200_000},
        {"ss_network_args": json.dumps({f"conv_di{number}": 1 for number in range(30_000)})},
        {"ss_datasets": json.dumps([{"resolution": json.loads("[" * 400 + "]" * 400)}])},
    ],
)
def test_metadata_of_any_kind(metadata: dict[str, str], tmp_path: Path) -> None:
    path = header_file(tmp_path / "a.safetensors", {"__metadata__": {"ss_network_dim": "4", **metadata}})
    assert import_report(path)["kind"]


def test_shapes_that_are_none_are_left_out(tmp_path: Path) -> None:
    good = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    path = header_file(tmp_path / "a.safetensors", {"x.lora_down.weight": {"shape": [[1], 2]}, "y": good})
    assert read_header(path).shapes == {"y": (2, 4)}
    assert import_report(path)["problems"]


# -- settings ----------------------------------------------------------------------------------------------------------


def test_long_arguments_are_taken_apart_in_time() -> None:
    assert len(split_arguments(["a=1 " + "b " * 1_000_000])) == 1
    values = parse_arguments(["a=" + "-" * 20_000 + "1", "b={[1]: 2}", "c=(1, 2)"])
    assert values["c"] == (1, 2) and values["b"] == "{[1]: 2}" and values["a"].startswith("--")


@pytest.mark.parametrize(
    "changes", [{"settings": {"network_args": 5}}, {"settings": {"network_dim": "8"}}, {"extra": 5}, {"datasets": [3]}]
)
def test_a_job_of_wrong_kinds(changes: dict[str, Any]) -> None:
    with pytest.raises(AtelierError, match="The job cannot be read"):
        job_from_dict({"version": 1, "settings": {}, "datasets": [], **changes})


def test_a_job_of_right_kinds_comes_back() -> None:
    job = job_from_dict({"version": 1, "settings": {"network_args": ["a=1"], "learning_rate": 1}, "datasets": []})
    assert job_from_dict(job_to_dict(job)) == job


@pytest.mark.parametrize("pattern", ["([a-z_.0-9]+)+!", "(a*)*b", "a" * 201, "a{99999999999999999999}", "(" * 150])
def test_patterns_that_take_for_ever(pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.toml"
    path.write_text(f"exclude_name = ['{pattern}']\n", encoding="utf-8")
    with pytest.raises(AtelierError, match="exclude_name"):
        read_preset(path)


def test_a_prompt_table_of_the_wrong_kind(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text("[prompt]\nsubset = 5\n", encoding="utf-8")
    with pytest.raises(AtelierError, match="not a list of tables"):
        read_sample_prompts(path)


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "whole.safetensors"
    save_checkpoint(path, tiny_parts("sd1"))
    load_checkpoint(path)
    return path


LAYERS = "cond_stage_model.transformer.text_model.encoder.layers."


@pytest.mark.parametrize(
    "change",
    [
        {LAYERS + "200000.x": torch.zeros(0)},
        {LAYERS + "².x": torch.zeros(0)},
        {"first_stage_model.decoder.conv_out.weight": None},
        {"first_stage_model.encoder.down.0.block.0.conv2.weight": None},
        {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(())},
        {"model.diffusion_model.out.2.weight": torch.zeros(0)},
        {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": torch.zeros(3)},
    ],
    ids=["many layers", "superscript", "no decoder", "no block", "no shape", "empty", "one side"],
)
def test_a_model_with_a_tensor_changed(change: dict[str, torch.Tensor | None], model: Path, tmp_path: Path) -> None:
    tensors = {**load_file(model), **change}
    path = tmp_path / "changed.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(AtelierError, match="changed.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "config",
    [
        {"unet": {"layers_per_block": 10**9}}, {"text_encoder": {"num_hidden_layers": 10**7}},
        {"unet": {"norm_num_groups": 0}}, {"unet": {"act_fn": 5}}, {"vae": {"down_block_types": ["Nothing"]}},
    ],
)  # fmt: skip
def test_a_model_that_states_what_cannot_be(config: dict[str, Any], model: Path, tmp_path: Path) -> None:
    path = tmp_path / "stated.safetensors"
    save_file(load_file(model), path, {CONFIG_KEY: json.dumps(config)})
    with pytest.raises(AtelierError, match="stated.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("files", [{"a": "../outside.safetensors"}, {"a": "/outside.safetensors"}, ["a"], None, {}])
def test_shards_lie_in_their_folder(files: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_checkpoint(folder, tiny_parts("sd1"), format="diffusers")
    (weights,) = (folder / "unet").glob("*.safetensors")
    weights.rename(tmp_path / "model" / "outside.safetensors")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}), encoding="utf-8")
    with pytest.raises(AtelierError, match="does not say which files have the weights"):
        load_checkpoint(folder)


# -- pictures and uploads ----------------------------------------------------------------------------------------------


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_pixels_are_counted_whatever_others_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = tmp_path / "large.png"
    path.write_bytes(png_of(10_000, 10_000))
    for look in (picture_size, open_picture):
        with pytest.raises(AtelierError, match="too many pixels"):
            look(path)
    monkeypatch.setattr(images, "MOST_PIXELS_OF_JPEG", 100)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg")
    with pytest.raises(AtelierError, match="too many pixels"):
        picture_size(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "name", ["CON.png", "nul.jpg", "com1.webp", "画" * 120 + ".png", "..\\..\\x.png", "a\ud800.png"]
)
def test_dropped_names_are_files_everywhere(name: str, tmp_path: Path) -> None:
    arrived = tmp_path / "arrived"
    Image.new("RGB", (8, 8)).save(arrived, "PNG")
    kept = keep_files([DroppedFile(arrived, name)], tmp_path / "uploads")
    assert not kept.left_out or "neither a picture" in kept.left_out[0]
    (file,) = kept.folder.iterdir()
    assert len(file.name.encode()) <= 130 and file.stem.lower() not in ("con", "nul", "com1")
    assert file.resolve().parent == kept.folder.resolve()
    assert kept.left_out == [], "a picture of any name is kept"
    assert file.suffix == Path(name).suffix and file.read_bytes() == arrived.read_bytes()


@pytest.mark.parametrize(
    ("name", "kept_as"),
    [
        ("CON.png", "_CON.png"), ("nul.jpg", "_nul.jpg"), ("com1.webp", "_com1.webp"), ("..\\..\\x.png", "_.._x.png"),
        ("a\ud800.png", "a_.png"), ("a?.png", "a_.png"), (" .png", "png"), ("x" * 80 + ".png", "x" * 80 + ".png"),
        ("画" * 120 + ".png", "画" * 38 + ".png"), ("console.png", "console.png"),
    ],
)  # fmt: skip
def test_the_name_that_a_dropped_file_gets(name: str, kept_as: str) -> None:
    """As near to its own as every system allows."""
    assert _safe_name(name) == kept_as


def test_a_half_made_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from atelier.ui.server import uploads

    arrived = tmp_path / "arrived"
    Image.new("RGB", (8, 8)).save(arrived, "PNG")

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads.shutil, "copyfile", full)
    with pytest.raises(AtelierError, match="No space left"):
        keep_files([DroppedFile(arrived, "a.png")], tmp_path / "uploads")
    assert list((tmp_path / "uploads").iterdir()) == []
