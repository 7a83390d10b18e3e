"""The LoRA tools of the command line, there and back again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.network import build
from atelier.cli import main
from atelier.config.imports.importer import read_any
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


def test_a_file_without_a_layer_is_no_lora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_lora(tmp_path / "other.safetensors", {"conv.weight": torch.zeros(3)}, {})
    assert main(["lora", "check", str(path)]) == 1
    assert "It has no layer of a LoRA." in capsys.readouterr().out


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


def changed(lora: Path, path: Path, **changes: torch.Tensor | None) -> tuple[Path, str]:
    """The LoRA with changes to one layer, and that layer; None takes a tensor out."""
    tensors = dict(read_lora(lora).tensors)
    layer = sorted(key.split(".")[0] for key in tensors)[0]
    for name, tensor in changes.items():
        tensors.pop(f"{layer}.{name}.weight")
        if tensor is not None:
            tensors[f"{layer}.{name}.weight"] = tensor
    return save_lora(path, tensors, {}), layer


def commands(lora: Path, base: Path, out: Path) -> list[list[str]]:
    """Every tool that reads a LoRA."""
    return [
        ["check", str(lora)],
        ["check", str(lora), "--base", str(base)],
        ["convert", str(lora), "--to", "peft", "--base", str(base), "--out", str(out)],
        ["convert", str(lora), "--to", "kohya", "--base", str(base), "--out", str(out)],
        ["resize", str(lora), "--rank", "2", "--out", str(out)],
        ["merge", str(lora), "--base", str(base), "--out", str(out)],
    ]


@pytest.mark.parametrize("side", ["lora_down", "lora_up"])
def test_half_a_layer_is_named_by_every_tool(
    side: str, base: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half, layer = changed(lora, tmp_path / "half.safetensors", **{side: None})
    out = tmp_path / "out.safetensors"
    for command in commands(half, base, out):
        assert main(["lora", *command]) == 1
        assert f"half.safetensors is damaged: {layer} lacks {side}.weight" in capsys.readouterr().err
        assert not out.exists()


def test_values_that_are_no_numbers_are_named_by_every_tool(
    base: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    down = next(tensor for name, tensor in sorted(read_lora(lora).tensors.items()) if "lora_down" in name)
    broken, layer = changed(lora, tmp_path / "nan.safetensors", lora_down=torch.full_like(down, float("nan")))
    out = tmp_path / "out.safetensors"
    for command in commands(broken, base, out):
        assert main(["lora", *command]) == 1
        said = capsys.readouterr()
        assert "NaN" in said.out + said.err and f"{layer}.lora_down.weight" in said.out + said.err
        assert not out.exists()


def test_layers_of_other_shapes_are_named(
    base: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, layer = changed(lora, tmp_path / "wide.safetensors", lora_down=torch.ones(4, 7), lora_up=torch.ones(9, 4))
    assert main(["lora", "check", str(wide)]) == 0
    capsys.readouterr()
    assert main(["lora", "check", str(wide), "--base", str(base)]) == 1
    said = capsys.readouterr().out
    count = len({key.split(".")[0] for key in read_lora(wide).tensors})
    assert "of another shape than in this base: 1\n" in said and f"  {layer}: it is [9, 4] · [4, 7]" in said
    assert f"{count - 1} of {count} layers match." in said


def test_many_layers_of_other_shapes_are_counted(
    base: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = {
        name: torch.ones(4, 7) if "lora_down" in name else tensor for name, tensor in read_lora(lora).tensors.items()
    }
    wide = save_lora(tmp_path / "wide.safetensors", tensors, {})
    assert main(["lora", "check", str(wide), "--base", str(base)]) == 1
    said = capsys.readouterr().out
    count = len({key.split(".")[0] for key in tensors})
    assert f"  and {count - 10} more\n" in said and len(said) < 4000


@pytest.mark.parametrize("metadata", [{}, {"unet.r": 4, "unet.lora_alpha": 2}])
def test_a_file_of_pefts_layout_is_resized(
    metadata: dict[str, int], base: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps its names, and the strength that its metadata state for the old rank."""
    there, made, small = (tmp_path / f"{name}.safetensors" for name in ("there", "made", "small"))
    shared = ["--base", str(base), "--out", str(made), "--precision", "float"]
    assert main(["lora", "convert", str(lora), "--to", "peft", *shared]) == 0
    save_lora(there, read_lora(made).tensors, {"lora_adapter_metadata": json.dumps(metadata)} if metadata else {})
    for rank, same in (("4", True), ("1", False)):
        small.unlink(missing_ok=True)
        capsys.readouterr()
        arguments = ["--rank", rank, "--out", str(small), "--precision", "float"]
        assert main(["lora", "resize", str(there), *arguments]) == 0
        old, new = read_lora(there), read_lora(small)
        assert new.shapes.keys() == old.shapes.keys() and "lora_adapter_metadata" not in new.metadata
        for name in old.shapes:
            if ".lora_A." in name and same:
                other = name.replace("lora_A", "lora_B")
                strength = 0.5 if metadata and name.startswith("unet.") else 1.0
                change = old.tensors[other].flatten(1) @ old.tensors[name].flatten(1) * strength
                kept = new.tensors[other].flatten(1) @ new.tensors[name].flatten(1)
                torch.testing.assert_close(kept, change, rtol=1e-3, atol=1e-5)
            elif ".lora_A." in name:
                assert new.shapes[name][0] == 1
        assert len(capsys.readouterr().out) < 300


def test_what_cannot_be_resized_is_said_in_one_sentence(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, tensors in enumerate((
        {f"model.diffusion_model.block_{index}.bias": torch.ones(2) for index in range(900)},
        {f"lora_unet_{index}.hada_w{side}_{end}": torch.ones(2, 2)
         for index in range(900) for side in "12" for end in "ab"},
    )):  # fmt: skip
        path = save_lora(tmp_path / f"{number}.safetensors", tensors, {})
        assert main(["lora", "resize", str(path), "--rank", "1", "--out", str(tmp_path / "out.safetensors")]) == 1
        said = capsys.readouterr().err
        assert "cannot be resized" in said and len(said) < 400
    assert not (tmp_path / "out.safetensors").exists()


def test_many_ranks_are_told_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {
        f"lora_unet_{rank}.lora_{side}.weight": torch.ones((rank, 2) if side == "down" else (2, rank))
        for rank in range(1, 40) for side in ("down", "up")
    }  # fmt: skip
    assert main(["lora", "check", str(save_lora(tmp_path / "x.safetensors", tensors, {}))]) == 0
    assert "ranks 1 to 39, 39 different ones\n" in capsys.readouterr().out


def test_a_resized_lora_can_be_imported(lora: Path, tmp_path: Path) -> None:
    """The ranks of its layers differ, which its metadata tell in a word; the tensors tell the rank."""
    small = tmp_path / "small.safetensors"
    assert main(["lora", "resize", str(lora), "--rank", "4", "--energy", "0.5", "--out", str(small)]) == 0
    file = read_lora(small)
    ranks = {shape[0] for name, shape in file.shapes.items() if "lora_down" in name}
    assert len(ranks) > 1 and file.metadata["ss_network_dim"] == file.metadata["ss_network_alpha"] == "Dynamic"
    found = read_any(small)
    assert found.problems == []
    assert (found.settings.network_dim, found.settings.network_alpha) == (max(ranks), max(ranks))
