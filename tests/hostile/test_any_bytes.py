"""Files that people bring, with anything in them: what they hold, or one sentence; no file beside them, no hang."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors.torch import save  # noqa: E402

from atelier.adapters.files.kohya_file import read_lora  # noqa: E402
from atelier.config.errors import AtelierError  # noqa: E402
from atelier.config.imports.importer import read_any  # noqa: E402
from atelier.config.imports.loading import load_job  # noqa: E402
from atelier.data.images import open_picture, picture_size  # noqa: E402
from atelier.data.wholeness import check_picture  # noqa: E402
from atelier.models.checkpoints.load import load_checkpoint  # noqa: E402

FUZZ = settings(
    max_examples=25, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
LONGEST = 5.0
"""Seconds that any file may take."""
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([-1, 0, 1, 2**31, 2**53, 2**63])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "F8_E4M3", "BOOL", "X9"]) | VALUES,
        "shape": st.lists(NUMBERS | st.integers(0, 4), max_size=4) | VALUES,
        "data_offsets": st.lists(NUMBERS | st.integers(0, 64), min_size=2, max_size=2) | VALUES,
    }
)
NAMES = st.sampled_from(
    [
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",  # noqa: E501
        "model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.encoder.conv_in.weight", "__metadata__",
    ]
) | st.text(max_size=12)  # fmt: skip
HEADERS = st.dictionaries(NAMES, ENTRY | VALUES, max_size=5)


def answered(work: Callable[[], Any], folder: Path) -> None:
    """It gives something or a sentence, in time, and leaves no file behind."""
    before = sorted(folder.iterdir())
    started = time.monotonic()
    try:
        work()
    except AtelierError as error:
        assert str(error).strip() and "Traceback" not in str(error)
    assert time.monotonic() - started < LONGEST
    assert sorted(folder.iterdir()) == before


def look_into(path: Path) -> None:
    """As a LoRA and as a checkpoint."""
    answered(lambda: read_lora(path).tensors, path.parent)
    answered(lambda: load_checkpoint(path, torch.float32, torch.device("cpu")), path.parent)


@pytest.mark.parametrize("claimed", ["its length", "any"])
@FUZZ
@given(header=HEADERS, length=NUMBERS, data=st.binary(max_size=64))
def test_safetensors_headers(claimed: str, header: Any, length: int, data: bytes, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    size = len(text) if claimed == "its length" else length % 2**64
    path = tmp_path / "any.safetensors"
    path.write_bytes(struct.pack("<Q", size) + text + data)
    look_into(path)


def whole_lora() -> bytes:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{name}.lora_down.weight": torch.zeros(2, 4, 1, 1), f"{name}.lora_up.weight": torch.zeros(4, 2, 1, 1),
        f"{name}.alpha": torch.tensor(1.0),
    }  # fmt: skip
    return save(tensors, {"ss_network_dim": "2", "ss_network_module": "networks.lora"})


def whole_pickle() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {"model.diffusion_model.a.weight": torch.ones(3)}, "epoch": 1}, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("suffix", "make"), [(".safetensors", whole_lora), (".ckpt", whole_pickle), (".pt", whole_pickle)]
)
@FUZZ
@given(changes=st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=9)), max_size=6), cut=st.integers(0, 3000))
def test_files_with_some_bytes_changed(
    suffix: str, make: Callable[[], bytes], changes: list[tuple[int, bytes]], cut: int, tmp_path: Path
) -> None:
    content = bytearray(make())
    for at, change in changes:
        at %= len(content)
        content[at : at + len(change)] = change
    path = tmp_path / f"any{suffix}"
    path.write_bytes(bytes(content[: len(content) - cut % len(content)] if cut % 3 == 0 else content))
    look_into(path)


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((24, 16), 90).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@FUZZ
@given(changes=st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=8)), max_size=5))
def test_picture_headers(kind: str, changes: list[tuple[int, bytes]], tmp_path: Path) -> None:
    content = bytearray(picture(kind))
    for at, change in changes:
        content[at : at + len(change)] = change
    path = tmp_path / f"any.{kind.lower()}"
    path.write_bytes(bytes(content))
    for look in (picture_size, open_picture, check_picture):
        answered(lambda look=look: look(path), tmp_path)  # type: ignore[misc]


@FUZZ
@given(content=st.binary(max_size=200), kind=st.sampled_from([".toml", ".json", ".png", ".safetensors", ".ckpt"]))
def test_any_bytes_under_any_ending(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"any{kind}"
    path.write_bytes(content)
    if kind == ".toml":
        answered(lambda: load_job(path), tmp_path)
    if kind in (".toml", ".json"):
        answered(lambda: read_any(path), tmp_path)
    elif kind == ".png":
        answered(lambda: open_picture(path), tmp_path)
    else:
        look_into(path)


KEYS = st.sampled_from(["max_train_steps", "resolution", "network_args", "optimizer_type", "datasets", "general", "x"])


@FUZZ
@given(table=st.dictionaries(KEYS, VALUES, max_size=5))
def test_toml_of_any_shape(table: dict[str, Any], tmp_path: Path) -> None:
    """What TOML can say of it: JSON's values are mostly TOML's too."""
    path = tmp_path / "any.toml"
    path.write_bytes(
        "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items()).encode("utf-8", "replace")
    )
    answered(lambda: load_job(path), tmp_path)
    answered(lambda: read_any(path), tmp_path)
