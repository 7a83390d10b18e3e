"""The LoRA tools of the command line, there and back again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.network import build
from atelier.cli import main
from atelier.models.checkpoints.save import save_checkpoint
from tests.support.models_tiny import tiny_parts


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_checkpoint(path, tiny_parts("sd1", 0), dtype=torch.float32)
    return path


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = build(tiny_parts("sd1", 0), NetworkConfig(dim=4, alpha=4.0), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    path = tmp_path_factory.mktemp("lora") / "made.safetensors"
    return save_lora(path, network.state_tensors(), {"ss_network_dim": "4"})


def test_check(base: Path, lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lora", "check", str(lora), "--base", str(base)]) == 0
    count = len({key.split(".")[0] for key in read_lora(lora).tensors})
    assert f"{count} of {count} layers match" in capsys.readouterr().out


def test_convert_there_and_back(base: Path, lora: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "peft.safetensors", tmp_path / "kohya.safetensors"
    shared = ["--base", str(base), "--precision", "float"]
    assert main(["lora", "convert", str(lora), "--to", "peft", "--out", str(there), *shared]) == 0
    assert main(["lora", "convert", str(there), "--to", "kohya", "--out", str(back), *shared]) == 0
    first, last = read_lora(lora).tensors, read_lora(back).tensors
    assert first.keys() == last.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(last[name].float(), tensor, rtol=1e-5, atol=1e-6)


def test_merge_then_extract_gives_the_change_back(base: Path, lora: Path, tmp_path: Path) -> None:
    merged, extracted = tmp_path / "merged.safetensors", tmp_path / "extracted.safetensors"
    assert main(["lora", "merge", str(lora), "--base", str(base), "--out", str(merged), "--precision", "float"]) == 0
    arguments = ["--base", str(base), "--rank", "4", "--out", str(extracted), "--precision", "float"]
    assert main(["lora", "extract", str(merged), *arguments]) == 0
    first, last = read_lora(lora).tensors, read_lora(extracted).tensors
    names = {key.split(".")[0] for key in first}
    assert names == {key.split(".")[0] for key in last}
    for name in names:
        changes = [
            tensors[f"{name}.lora_up.weight"].flatten(1) @ tensors[f"{name}.lora_down.weight"].flatten(1)
            for tensors in (first, last)
        ]
        torch.testing.assert_close(changes[1], changes[0], rtol=1e-3, atol=1e-4)


def test_resize_and_no_overwriting(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small.safetensors"
    arguments = ["lora", "resize", str(lora), "--rank", "2", "--out", str(small)]
    assert main(arguments) == 0
    downs = [tensor for name, tensor in read_lora(small).tensors.items() if name.endswith("lora_down.weight")]
    assert downs and all(down.shape[0] == 2 for down in downs)
    assert main(arguments) == 1
    assert "exists" in capsys.readouterr().err
