"""Every family trains, draws, saves and resumes: SD2 with velocity, SDXL with two text encoders and size conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.jobs.control import Control
from atelier.models.family import Parts
from tests.support.models_tiny import tiny_parts as parts_of
from tests.support.training_fakes import MemoryRecord, TinyHost, assert_same, run, tiny_job, write_pictures

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "max_train_steps": 3, "sample_every_n_steps": 2, "sample_prompts": "a cat --s 1 --w 64 --h 64",
    "train_batch_size": 1, "resolution": "64", "min_bucket_reso": 64, "max_bucket_reso": 64,
}  # fmt: skip
PREFIXES = {"sd2": {"lora_unet", "lora_te"}, "sdxl": {"lora_unet", "lora_te1", "lora_te2"}}
VERSIONS = {"sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}


def parts(family: str) -> Parts:
    found = parts_of(family)
    if family == "sd2":
        found.prediction_type = "v_prediction"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", PREFIXES)
def test_a_run_stopped_and_resumed(family: str, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2, side=96)
    straight = run(tiny_job(pictures, **SETTINGS), tmp_path / "a", host=TinyHost(tmp_path / "a", parts(family)))
    assert straight.outcome.state == "done" and len(straight.record.pictures) == 1
    assert {name.split("_")[0] + "_" + name.split("_")[1] for name in straight.tensors} == PREFIXES[family]
    moved = [name for name, tensor in straight.tensors.items() if "lora_up" in name and bool(tensor.abs().max() > 0)]
    assert {name.split("_")[1] for name in moved} == {name.split("_")[1] for name in PREFIXES[family]}
    assert straight.metadata["ss_base_model_version"].startswith(VERSIONS[family])

    def stop(step: int, control: Control) -> None:
        if step == 1:
            control.stop()

    first = run(tiny_job(pictures, **SETTINGS), tmp_path / "b", stop, TinyHost(tmp_path / "b", parts(family)))
    second = run(
        tiny_job(pictures, **SETTINGS), tmp_path / "b", host=TinyHost(tmp_path / "b", parts(family)),
        record=MemoryRecord(first.record.folder),
    )  # fmt: skip
    assert_same(second.tensors, straight.tensors)


@pytest.mark.slow
def test_sdxls_text_encoders_have_rates_of_their_own(tmp_path: Path) -> None:
    """Each text encoder has its own rate, and one with none stays as it is."""
    pictures = write_pictures(tmp_path / "pictures", 1, side=64)
    settings = {**SETTINGS, "max_train_steps": 1, "text_encoder_lr": [1e-3, 0.0], "sample_every_n_steps": None}
    done = run(tiny_job(pictures, **settings), tmp_path / "a", host=TinyHost(tmp_path / "a", parts("sdxl")))
    [(_, _, rates)] = done.record.rows
    assert rates == {"text_encoder": 1e-3, "unet": 1e-2}
    still = [tensor for name, tensor in done.tensors.items() if name.startswith("lora_te2") and "lora_up" in name]
    assert all(torch.equal(tensor, torch.zeros_like(tensor)) for tensor in still)
