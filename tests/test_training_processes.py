"""Several processes train like one with the same global batch: same losses, one set of files, resumed to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_fakes import tiny_parts, write_pictures

from atelier.models.save import save_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forks")]
NEAR = 1e-5
STEPS = [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    script = Path(__file__).with_name("training_launched.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("launched"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("one", "two"), [("one", "two"), ("one-a", "two-a")], ids=["plain", "accumulated"])
def test_two_processes_have_the_losses_of_one(one: str, two: str, found: dict[str, Any]) -> None:
    assert found[one]["steps"] == found[two]["steps"] == STEPS
    assert found[two]["losses"] == pytest.approx(found[one]["losses"], rel=NEAR)


def test_their_weights_are_the_same(found: dict[str, Any]) -> None:
    """After six steps of AdamW at a rate of 1e-2, which divides even rounding by itself."""
    assert found["apart"] < 1e-4 and found["accumulated apart"] < 1e-3


def test_they_save_and_draw_once(found: dict[str, Any]) -> None:
    for name in ("one", "two"):
        assert found[name]["saved"] == ["tiny-step00000002", "tiny-step00000004", "tiny"]
        assert found[name]["samples"] == 2
    assert found["one"]["files"] == found["two"]["files"]


def test_stop_in_one_stops_all_and_resumes_to_the_bit(found: dict[str, Any]) -> None:
    assert found["stopped"]["steps"] == [1, 2, 3] and found["stopped"]["saved"][-1] == "tiny-step00000003"
    assert found["resumed"]["losses"] == found["two"]["losses"]
    assert found["resumed apart"] == 0.0


def test_accelerate_launch(tmp_path: Path, root: Path) -> None:
    """The real launcher; --multi_gpu is its word for several processes, also where there are only processors."""
    save_checkpoint(tmp_path / "base", tiny_parts(), format="diffusers")
    pictures = write_pictures(tmp_path / "pictures")
    settings = {
        "output_name": "tiny", "resolution": "32", "train_data_dir": str(pictures), "network_dim": 2, "seed": 3,
        "max_train_steps": 2, "train_batch_size": 2, "min_bucket_reso": 32, "bucket_reso_steps": 8,
    }  # fmt: skip
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
            "--main_process_port", "0", "-m", "atelier.cli", "train", str(tmp_path / "settings.toml"),
            "--ckpt", str(tmp_path / "base"), "--device", "cpu", "--data-dir", str(tmp_path / "data"),
        ],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(root / "lib"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Saved ") == 1
    runs = list((tmp_path / "data" / "runs").iterdir())
    assert len(runs) == 1
    rows = [json.loads(line) for line in (runs[0] / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows] == [1, 2]
    assert (tmp_path / "data" / "loras" / "tiny.safetensors").exists()
