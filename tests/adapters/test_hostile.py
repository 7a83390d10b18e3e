"""Adapter files whose tensors make no layers: every tool says so in a sentence, or passes them over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from atelier.adapters.applied.apply import LoraUse, match_layers, prepare_lora
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import LoRAFile, read_lora
from atelier.adapters.network import build
from atelier.adapters.start import start_network
from atelier.adapters.tools.check import check_lora
from atelier.adapters.tools.exchange import to_kohya, to_peft
from atelier.adapters.tools.merge import merged_lora, merged_weights
from atelier.adapters.tools.resize import resize
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from tests.support.training_fakes import tiny_parts

LAYER = "lora_te_text_model_encoder_layers_0_mlp_fc1"
CONFIG = NetworkConfig(dim=2, alpha=2.0)
NAN, INF = float("nan"), float("inf")


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


CASES: dict[str, dict[str, Tensor | None]] = {
    "a row of alphas": {"alpha": ones(3)},
    "no alpha in it": {"alpha": ones(0)},
    "alpha NaN": {"alpha": torch.tensor(NAN)},
    "alpha infinite": {"alpha": torch.tensor(INF)},
    "alpha true": {"alpha": torch.tensor(True)},
    "rank 0": {"lora_down.weight": ones(0, 32), "lora_up.weight": ones(48, 0)},
    "rows": {"lora_down.weight": ones(4), "lora_up.weight": ones(4)},
    "numbers": {"lora_down.weight": torch.tensor(1.0), "lora_up.weight": torch.tensor(1.0)},
    "five dimensions": {"lora_down.weight": ones(2, 2, 2, 1, 1)},
    "other ranks": {"lora_down.weight": ones(5, 32)},
    "other width": {"lora_down.weight": ones(2, 33)},
    "NaN": {"lora_down.weight": ones(2, 32) * NAN},
    "infinite": {"lora_up.weight": ones(48, 2) * INF},
    "bytes": {"lora_down.weight": ones(2, 32).to(torch.int8)},
    "complex": {"lora_down.weight": ones(2, 32).to(torch.complex64)},
    "half a layer": {"lora_up.weight": None},
    "no layer": {"lora_up.weight": None, "lora_down.weight": None},
    "half a LoKr": {"lora_up.weight": None, "lora_down.weight": None, "lokr_w1": ones(2, 2)},
    "LoKr of rows": {"lora_up.weight": None, "lora_down.weight": None, "lokr_w1": ones(2), "lokr_w2": ones(3)},
    "half a LoHa": {"lora_up.weight": None, "lora_down.weight": None, "hada_w1_a": ones(2, 2)},
    "OFT": {"lora_up.weight": None, "lora_down.weight": None, "oft_blocks": ones(2)},
    "(IA)3": {"lora_up.weight": None, "lora_down.weight": None, "weight": ones(3), "on_input": torch.tensor(5)},
    "DoRA of one number": {"dora_scale": torch.tensor(NAN)},
    "DoRA too long": {"dora_scale": ones(7)},
    "whole": {"lora_up.weight": None, "lora_down.weight": None, "diff": ones(3), "diff_b": ones(9, 9)},
}


@pytest.fixture(scope="module")
def parts() -> Parts:
    return tiny_parts()


@pytest.fixture(scope="module")
def good(parts: Parts) -> dict[str, Tensor]:
    return dict(build(parts, CONFIG, 0).state_tensors(torch.float32))


def written(path: Path, good: dict[str, Tensor], changes: dict[str, Tensor | None]) -> Path:
    """A good file but for one layer."""
    tensors = dict(good)
    for suffix, tensor in changes.items():
        tensors.pop(f"{LAYER}.{suffix}", None)
        if tensor is not None:
            tensors[f"{LAYER}.{suffix}"] = tensor
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, str(path))
    return path


def tools(parts: Parts, path: Path) -> dict[str, Callable[[LoRAFile], Any]]:
    return {
        "check": lambda file: (check_lora(file).sentence, check_lora(file, parts).sentence),
        "resize": lambda file: resize(to_kohya(parts, file).tensors, 1),
        "kohya": lambda file: to_kohya(parts, file),
        "peft": lambda file: to_peft(parts, file),
        "match": lambda file: match_layers(parts, file),
        "merge": lambda file: list(merged_weights(parts, [LoraUse(file, 1.0, 1.0)])),
        "one of several": lambda file: merged_lora(parts, [(file, 1.0)], 4),
        "wear": lambda file: prepare_lora(parts, file),
        "start from": lambda file: start_network(parts, CONFIG, 0, path),
        "start from its ranks": lambda file: start_network(parts, CONFIG, 0, path, True),
    }


@pytest.mark.parametrize("name", CASES)
def test_no_tool_stumbles(name: str, parts: Parts, good: dict[str, Tensor], tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", good, CASES[name])
    for tool in tools(parts, path).values():
        try:
            tool(read_lora(path))
        except AtelierError as error:
            assert str(error)


def test_every_tool_takes_the_whole_file(parts: Parts, good: dict[str, Tensor], tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", good, {})
    for tool in tools(parts, path).values():
        tool(read_lora(path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a row of alphas", r"alpha has the shape \[3\]; it must be a single number"),
        ("rank 0", r"lora_down.weight has the shape \[0, 32\], which is empty"),
        ("rows", "it must be a matrix"),
        ("DoRA of one number", "it must be a vector"),
        ("half a LoHa", "lacks hada_w1_b"),
        ("half a LoKr", "lacks lokr_w2"),
    ],
)
def test_what_is_wrong_is_said(name: str, said: str, good: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match=f"x.safetensors is damaged: {LAYER}.*{said}.*Download or save it again"):
        read_lora(written(tmp_path / "x.safetensors", good, CASES[name]))


def test_values_that_are_no_numbers_have_no_ranks(parts: Parts, good: dict[str, Tensor], tmp_path: Path) -> None:
    file = read_lora(written(tmp_path / "x.safetensors", good, CASES["NaN"]))
    with pytest.raises(AtelierError, match="are NaN or infinite"):
        resize(to_kohya(parts, file).tensors, 1)
