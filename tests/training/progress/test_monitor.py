"""Losses are read in batches where steps are short, and by the clock where they are long."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.training.optim.norms import all_finite
from atelier.training.progress import last_good as divergence
from atelier.training.progress import monitor as module
from atelier.training.progress import step_schedule as rhythm
from atelier.training.progress.monitor import STEPS, Monitor, longest_wait
from atelier.training.progress.step_schedule import StepSchedule
from tests.support.training_fakes import run, tiny_job, write_pictures


class Told:
    """Keeps what a record is told."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.values: list[tuple[Any, ...]] = []
        """Of `progress`: step, total, epoch, epochs, seconds a step, seconds left, memory."""

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None:
        self.batches.append([step for step, _, _ in rows])

    def progress(self, *values: Any) -> None:
        self.values.append(values)


@pytest.mark.parametrize(
    ("device", "seconds", "expected"),
    [("cpu", 0.02, STEPS), ("cpu", 0.3, 2), ("cpu", 5.0, 1), ("cuda", 0.1, STEPS), ("cuda", 0.7, 3), ("cuda", 9.0, 1)],
)
def test_as_many_at_once_as_fit_into_the_longest_wait(
    device: str, seconds: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "memory_used", lambda device: 0)
    told = Told()
    monitor = Monitor(told, StepSchedule(3 * STEPS + 1, 4), torch.device(device))
    for step in range(1, 3 * STEPS + 2):
        now[0] += seconds
        if monitor.step_done(step, torch.tensor(0.5), {}, seconds):
            assert monitor.read()
    assert [step for batch in told.batches for step in batch] == list(range(1, 3 * STEPS + 2))
    assert {len(batch) for batch in told.batches[:-1]} == {expected}
    assert longest_wait(torch.device("cpu")) < longest_wait(torch.device("cuda")) <= 2


def test_what_is_told_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch is the first until its last step is over; the speed, and what is left, are of the last twenty steps."""
    monkeypatch.setattr(module, "STEPS", 1)
    monkeypatch.setattr(module, "memory_used", lambda device: 5)
    told = Told()
    monitor = Monitor(told, StepSchedule(25, 4, accumulation=2), torch.device("cpu"))
    seconds = [float(step) for step in range(1, 26)]
    for step in range(1, 26):
        assert monitor.step_done(step, torch.tensor(0.5), {}, seconds[step - 1]) and monitor.read()
    means = [sum(seconds[max(0, step - 20) : step]) / min(step, 20) for step in range(1, 26)]
    assert [values[:4] for values in told.values] == [(step, 25, (step + 1) // 2, 13) for step in range(1, 26)]
    assert [values[4] for values in told.values] == pytest.approx(means)
    assert [values[5] for values in told.values] == pytest.approx(
        [(25 - step) * mean for step, mean in enumerate(means, start=1)]
    )
    assert {values[6] for values in told.values} == {5}


@pytest.mark.parametrize("losses", [(float("nan"), 0.5, 0.5), (0.5, float("inf"), 0.5), (0.5, 0.5, float("nan"))])
def test_one_loss_of_several_that_is_no_number_is_seen(losses: tuple[float, ...]) -> None:
    told = Told()
    monitor = Monitor(told, StepSchedule(9, 4), torch.device("cpu"))
    for step, loss in enumerate(losses, start=1):
        monitor.step_done(step, torch.tensor(loss), {}, 1.0)
    assert not monitor.read() and told.batches == [[1, 2, 3]]
    assert monitor.read() and told.batches == [[1, 2, 3]]


@pytest.mark.slow
def test_what_is_read_at_once_is_what_is_read_one_by_one(tmp_path: Path) -> None:
    """A run's losses, rates and file do not rest on when its losses are read; the last one is never left."""
    job = tiny_job(write_pictures(tmp_path / "pictures"), max_train_steps=7, lr_scheduler="cosine")
    each, several = run(job, tmp_path / "each"), run(job, tmp_path / "several", losses_at_once=3)
    assert each.record.rows == several.record.rows and len(each.record.rows) == 7
    assert all(torch.equal(several.tensors[name], tensor) for name, tensor in each.tensors.items())


def test_weights_that_take_long_to_copy_are_copied_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a hundredth of the time at the most; those that are no numbers never."""
    now = [time.monotonic()]

    def looked_at(weights: Any) -> bool:
        now[0] += 0.1
        return all_finite(weights)

    monkeypatch.setattr(rhythm.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(divergence, "all_finite", looked_at)
    weight = torch.nn.Parameter(torch.zeros(3))
    guard = divergence.LastGoodWeights([weight])
    kept = []
    for step in range(1, 31):
        now[0] += 1.0
        weight.data.fill_(float("nan") if step == 25 else float(step))
        guard.remember(step)
        kept.append(guard.roll_back())
        assert weight.tolist() == [kept[-1]] * 3
    assert kept[:11] == [1] * 10 + [11] and len(set(kept)) == 3 and 25 not in kept


@pytest.mark.parametrize(
    ("patience", "losses", "good"),
    [
        (0, "1 nan", False), (2, "nan nan 1", True), (2, "nan nan nan", False), (2, "nan 1 nan inf 1 nan nan", True),
        (0, "1 2 3", True), (2, "1 -inf nan nan", False),
    ],
)  # fmt: skip
def test_as_many_overflows_in_a_row_are_borne_as_a_scaler_may_need(patience: int, losses: str, good: bool) -> None:
    """Also where they are read a few at a time."""
    values = [float(word) for word in losses.split()]
    for at_once in (len(values), 1):
        monitor = Monitor(Told(), StepSchedule(100, 100), torch.device("cpu"), patience)
        read = []
        for step, value in enumerate(values, 1):
            monitor.step_done(step, torch.tensor(value), {}, 0.1)
            if step % at_once == 0:
                read.append(monitor.read())
        assert all(read) == good


def test_a_gpu_s_memory_is_what_torch_has_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a task manager shows it; what is allocated of it is less."""
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5 << 30)
    assert module.memory_used(torch.device("cuda")) == 7 << 30
