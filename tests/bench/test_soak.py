"""The line through what was measured, and a soak short enough to be seen."""

from __future__ import annotations

import pytest

from atelier.bench.soak import fitted, soak_runs, soak_steps

MB = 2**20


@pytest.mark.parametrize(
    ("each", "files", "flat"), [(0.0, 7, True), (10.0, 7, True), (40_000.0, 7, False), (0.0, 8, False)]
)
def test_what_is_flat(each: float, files: int, flat: bool) -> None:
    """The first quarter is warming up; noise is no growth, a slope is, and so is a file that stays open."""
    wiggle = [100_000 if number % 3 else -200_000 for number in range(100)]
    samples = [600 * MB + round(10 * each * number) + wiggle[number] for number in range(100)]
    samples[:25] = [100 * MB * (1 + number // 5) for number in range(25)]
    found = fitted("steps", 1000, samples, 10, (3, 7), (3, files))
    assert found.slope == pytest.approx(each, abs=50)
    assert found.flat is flat and ("flat" in str(found)) is flat


@pytest.mark.slow
def test_steps_and_runs_leave_nothing_open() -> None:
    """Of 300 steps memory is flat; a few runs are too few for that, as the first ones still fill caches."""
    found = soak_steps(300, every=5)
    assert found.flat, str(found)
    found = soak_runs(6)
    assert found.threads[1] <= found.threads[0] and found.files[1] <= found.files[0], str(found)
