"""The checkpoint list, the LoRA list, and pictures with their parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.hosts.contract import SampleRequest
from atelier.hosts.embedded.checkpoints import list_checkpoints
from atelier.hosts.embedded.folders import data_folder
from atelier.hosts.embedded.lora_list import find_lora, list_loras
from atelier.hosts.embedded.png_info import parameters_text, save_picture


def touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_checkpoint_list(tmp_path: Path) -> None:
    models = tmp_path / "models"
    touch(models / "b.safetensors")
    touch(models / "sub" / "A.ckpt")
    touch(models / "b.vae.safetensors")
    touch(models / ".hidden.safetensors")
    touch(models / "notes.txt")
    touch(models / "folder" / "model_index.json")
    touch(models / "folder" / "unet" / "diffusion_pytorch_model.safetensors")
    demo = tmp_path / "base"
    demo.mkdir()
    entries = list_checkpoints(models, [demo, tmp_path / "absent", models / "b.safetensors"])
    assert [entry.title for entry in entries] == ["b.safetensors", "folder", "sub/A.ckpt", "base"]
    assert entries[1].path == models / "folder"


def test_folders_are_made(tmp_path: Path) -> None:
    folders = data_folder(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"models", "loras", "outputs", "runs", "cache"}
    assert folders.lora.name == "loras"


def test_lora_list_reads_previews_and_words(tmp_path: Path) -> None:
    touch(tmp_path / "old.safetensors")
    new = touch(tmp_path / "sub" / "new.safetensors")
    preview = touch(tmp_path / "sub" / "new.png")
    sidecar = {"activation text": "zwx badge", "preferred weight": 0.8}
    touch(tmp_path / "sub" / "new.json", json.dumps(sidecar).encode())
    touch(tmp_path / "old.json", b"not json")
    entries = {entry.name: entry for entry in list_loras(tmp_path)}
    assert entries["new"].preview == preview
    assert (entries["new"].activation_text, entries["new"].weight) == ("zwx badge", 0.8)
    assert (entries["old"].activation_text, entries["old"].weight, entries["old"].preview) == ("", 1.0, None)
    assert find_lora(tmp_path, "NEW").path == new
    with pytest.raises(AtelierError, match="badge.*new, old"):
        find_lora(tmp_path, "badge")


def test_pictures_carry_their_parameters_and_overwrite_nothing(tmp_path: Path) -> None:
    request = SampleRequest("a red circle <lora:x:1>", "blue", 64, 72, 12, 3.5, 42, "DDIM")
    text = parameters_text(request, "base", "abcdef", {"x": "0123"}, "1.0")
    assert text.splitlines() == [
        "a red circle <lora:x:1>",
        "Negative prompt: blue",
        "Steps: 12, Sampler: DDIM, CFG scale: 3.5, Seed: 42, Size: 64x72, Model hash: abcdef, Model: base, "
        'Lora hashes: "x: 0123", Version: atelier 1.0',
    ]
    picture = Image.new("RGB", (64, 72), "red")
    paths = [save_picture(picture, tmp_path, 42, text) for _ in range(3)]
    assert [path.name for path in paths] == ["00001-42.png", "00002-42.png", "00003-42.png"]
    with Image.open(paths[0]) as saved:
        assert saved.text["parameters"] == text  # type: ignore[attr-defined]
        assert saved.getpixel((0, 0)) == (255, 0, 0)
