"""The loss curve of a run: smoothed, thinned for the page, and cut back when the run goes on from an earlier step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 600
"""Most points of a curve that is sent as a whole: more than a screen can show apart."""

Row = list[Any]
"""[step, loss or None, {name: learning rate}], as in the file."""


class LossCurve:
    """The losses of a run in order of steps, with a smoothed loss.

    The smoothed loss is a moving average: over all steps at first, then over about the last eighth of the run, between
    10 and 100 steps. The loss of a single step says little, since each step has another noise level.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, float | None, float | None]] = []
        """(step, loss, smoothed loss); a loss that was NaN is None."""
        self.rates: dict[str, float] = {}
        """The newest learning rates."""
        self.rewound = 0
        """How often the curve was cut back to an earlier step."""

    def add(self, step: int, loss: float | None, rates: Mapping[str, float]) -> Row:
        """Adds the loss of `step` and drops this step's old loss and all later ones. Returns the row for the file."""
        named = {str(name): float(rate) for name, rate in rates.items() if rate is not None}
        if self.rows and step <= self.rows[-1][0]:
            self.rewound += 1
            while self.rows and self.rows[-1][0] >= step:
                self.rows.pop()
        value = float(loss) if loss is not None and math.isfinite(loss) else None
        self.rows.append((step, value, self._smoothed(value)))
        self.rates = named
        return [step, value, self.rates]

    def read(self, rows: Sequence[Any]) -> None:
        """Adds rows from the disk. Damaged rows are ignored."""
        for row in rows:
            try:
                step, loss, rates = row
                self.add(int(step), None if loss is None else float(loss), rates)
            except (TypeError, ValueError, AttributeError, OverflowError):
                continue

    def since(self, cursor: str) -> dict[str, Any]:
        """News after `cursor`: rows, the next cursor, and "reset" when they replace all earlier rows."""
        rewound, _, count = cursor.partition(":")
        known = int(count) if count.isascii() and count.isdigit() and len(count) < 12 else 0
        reset = not known or rewound != str(self.rewound) or known > len(self.rows)
        rows = thinned(self.rows) if reset else self.rows[known:]
        return {"reset": reset, "rows": [list(row) for row in rows], "cursor": f"{self.rewound}:{len(self.rows)}"}

    def _smoothed(self, value: float | None) -> float | None:
        before = self.rows[-1][2] if self.rows else None
        if value is None or before is None:
            return value if before is None else before
        count = len(self.rows) + 1
        window = min(count, max(10, min(100, count // 8)))
        return before + (value - before) / window


def thinned(
    rows: Sequence[tuple[int, float | None, float | None]], shown: int = SHOWN
) -> list[tuple[int, float | None, float | None]]:
    """At most `shown` rows of the same curve: for each stretch its last step, mean loss and last smoothed loss."""
    if len(rows) <= shown:
        return list(rows)
    found = []
    for number in range(shown):
        stretch = rows[number * len(rows) // shown : (number + 1) * len(rows) // shown]
        losses = [loss for _, loss, _ in stretch if loss is not None]
        step, _, smoothed = stretch[-1]
        found.append((step, sum(losses) / len(losses) if losses else None, smoothed))
    return found
