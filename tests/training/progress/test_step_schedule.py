"""Where epochs end, and what is due after which step."""

from __future__ import annotations

import pytest

from atelier.training.progress.step_schedule import StepSchedule


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
