"""Several processes train like one with the same global batch: same losses, one set of files, resumed to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atelier.adapters.files.kohya_file import read_lora
from tests.support.training_forks import arguments_for
from tests.support.training_launched import apart, result

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forks")]
NEAR = 1e-5
STEPS = [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launched")


@pytest.fixture(scope="module")
def found(scene: Path) -> dict[str, Any]:
    script = Path(__file__).resolve().parents[2] / "support" / "training_launched.py"
    command = [sys.executable, str(script), str(scene)]
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


def test_a_loss_that_another_process_reads_first(scene: Path, found: dict[str, Any]) -> None:
    """The one that saves reads ten losses at once, the other each: both go back to what was good."""
    assert set(found["spoilt"]["saved"]) == {"tiny-step00000002"}
    tensors = read_lora(scene / "spoilt" / "loras" / "tiny-step00000002.safetensors").tensors
    assert tensors and all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_accelerate_launch(scene: Path, found: dict[str, Any], root: Path) -> None:
    """By the real launcher, ended after three steps and resumed: the losses of six, saved once.

    --multi_gpu is its word for several processes, also where there are only processors.
    """
    for steps in (3, 6):
        done = subprocess.run(
            [
                sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
                "--main_process_port", "0", "-m", "atelier.cli", *["train", *arguments_for(scene, "launcher")],
                "--train_batch_size", "2", "--max_train_steps", str(steps),
            ],
            capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "PYTHONPATH": str(root / "lib"), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        saved = [Path(line.split()[1]).stem for line in done.stdout.splitlines() if line.startswith("Saved ")]
        assert saved == [f"tiny-step{steps // 3 * 2:08d}", "tiny"]
    ended = result(scene, "launcher")
    assert ended["steps"] == STEPS and ended["losses"] == found["two"]["losses"]
    assert ended["files"] == found["two"]["files"] and apart(scene, "two", "launcher") == 0.0
