"""A run that Atelier 0.1.0 began goes on here, and a LoRA that it wrote is read.

The files were written by 0.1.0: 4 pictures of `write_pictures`, stopped after step 3 of 6, and the same run to its end.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from atelier.adapters.applied.apply import prepare_lora
from atelier.adapters.files.kohya_file import read_lora
from tests.support.training_fakes import MemoryRecord, run, tiny_job, tiny_parts, write_pictures

SETTINGS = {
    "max_train_steps": 6, "network_dim": 2, "network_alpha": 1.0, "ema_decay": 0.9, "lr_scheduler": "cosine",
    "train_batch_size": 2, "save_every_n_steps": 3,
}  # fmt: skip


@pytest.fixture
def old(root: Path) -> Path:
    return root / "tests" / "fixtures" / "release-0.1.0"


def test_its_state_goes_on_to_what_it_would_have_learnt(old: Path, tmp_path: Path) -> None:
    """To the bit where the numbers are computed as they were then; other CPUs and versions of torch round otherwise."""
    record = MemoryRecord(tmp_path / "record")
    (record.folder / "state").mkdir()
    shutil.copy(old / "state-000000003.safetensors", record.folder / "state" / "000000003.safetensors")
    shutil.copy(old / "savers.json", record.folder / "savers.json")
    done = run(tiny_job(write_pictures(tmp_path / "pictures", 4), **SETTINGS), tmp_path, record=record)
    assert record.told("Going on from step 3.") and [row[0] for row in record.rows] == [4, 5, 6]
    expected = read_lora(old / "lora.safetensors").tensors
    assert set(done.tensors) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(done.tensors[name], tensor, rtol=1e-3, atol=1e-5)


def test_its_lora_finds_all_of_its_layers(old: Path) -> None:
    ready = prepare_lora(tiny_parts(), read_lora(old / "lora.safetensors"))
    assert len(ready.network.layers) == 60 and ready.report() is None
