"""Steps that overflow in fp16 are skipped by the scaler; they are steps all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.optimizer import AcceleratedOptimizer

from tests.support.training_fakes import run, tiny_job, write_pictures


def test_a_schedule_ends_with_the_last_step_though_some_were_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a schedule that waits for them, 6 of 50 skipped steps end a cosine at 3.5 % of its rate."""
    pictures = write_pictures(tmp_path / "pictures", 2)
    settings = {"max_train_steps": 6, "lr_scheduler": "cosine"}
    rates = [row[2] for row in run(tiny_job(pictures, **settings), tmp_path / "a").record.rows]
    monkeypatch.setattr(AcceleratedOptimizer, "step_was_skipped", property(lambda self: True))
    skipped = [row[2] for row in run(tiny_job(pictures, **settings), tmp_path / "b").record.rows]
    assert skipped == rates and rates[0] != rates[-1]
