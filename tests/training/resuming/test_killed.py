"""Killed fifty times, also while it writes, a run ends with the file of one that was never killed: of a LoRA, of one
with a moving average, of the whole model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 50


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each life is a fork")
def test_fifty_kills(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "support" / "training_victim.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "scene"), str(KILLS), "1"],
        capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] >= KILLS and report["finished"] >= 3
    assert min(report["moment"], report["event"], report["torn"]) >= 5
