"""Where epochs end, and what is due after which step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from atelier.training.progress import step_schedule
from atelier.training.progress.step_schedule import StepSchedule, Throttle
from atelier.training.run import FIRST_STATE


@pytest.mark.parametrize(
    ("schedule", "finished", "ends", "epochs"),
    [
        (StepSchedule(8, 4), [0, 0, 0, 0, 1, 1, 1, 1, 2], [4, 8], 2),
        (StepSchedule(8, 4, accumulation=2), [0, 0, 1, 1, 2, 2, 3, 3, 4], [2, 4, 6, 8], 4),
        (StepSchedule(5, 4, accumulation=3), [0, 0, 1, 2, 3, 3], [2, 3, 4], 4),
        (StepSchedule(2, 2, accumulation=6), [0, 3, 6], [1, 2], 6),
    ],
    ids=["a batch a step", "two batches a step", "epochs that end within a step", "steps of several epochs"],
)
def test_epochs_are_counted_in_batches(
    schedule: StepSchedule, finished: list[int], ends: list[int], epochs: int
) -> None:
    steps = range(schedule.total_steps + 1)
    assert [schedule.finished_epochs(step) for step in steps] == finished
    assert [step for step in steps[1:] if schedule.ends_epoch(step)] == ends
    assert schedule.epochs == epochs


@pytest.mark.parametrize(
    ("every_steps", "every_epochs", "due"),
    [(3, None, [3, 6]), (None, 1, [2, 4, 6, 8]), (None, 3, [6]), (3, 2, [3, 4, 6, 8]), (None, None, []), (0, 0, [])],
)
def test_what_is_due_by_steps_and_by_epochs(every_steps: int | None, every_epochs: int | None, due: list[int]) -> None:
    schedule = StepSchedule(8, 4, accumulation=2)
    assert [step for step in range(1, 9) if schedule.due(step, every_steps, every_epochs)] == due


def test_a_throttle_may_begin_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a step each second: a run that is killed after 27 s has lost 12 of them."""
    now = [0.0]
    monkeypatch.setattr(step_schedule, "time", SimpleNamespace(monotonic=lambda: now[0]))
    throttle = Throttle(60.0, 0.0, first=FIRST_STATE)
    due = []
    for second in range(1, 201):
        now[0] = float(second)
        due += [second] if throttle.due() else []
    assert due == [5, 15, 35, 75, 135, 195]
    assert 27 - max(second for second in due if second <= 27) == 12


def test_work_that_will_take_long_is_not_due_early(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(step_schedule, "time", SimpleNamespace(monotonic=lambda: now[0]))
    throttle = Throttle(60.0, 0.0, first=5.0)
    throttle.expect(2.0)
    now[0] = 39.0
    assert not throttle.due()
    now[0] = 40.0
    assert throttle.due()
    with throttle.timed():
        now[0] = 41.0
    throttle.expect(100.0)  # it was measured
    now[0] = 61.0
    assert throttle.due()
