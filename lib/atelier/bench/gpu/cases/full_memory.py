"""A device that is too small by and by: errors are recognised, the run ends well, and all memory comes back."""

from __future__ import annotations

from typing import Any

import torch

from atelier.bench.gpu.bases import SD1
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.meddling import losses_through
from atelier.bench.gpu.runs import Bench, bench, half

SHARES = (0.9, 0.7, 0.5)
BATCH: dict[str, Any] = {"train_batch_size": 4, "max_train_steps": 3, "network_train_unet_only": True}
AT = 4
"""The batch in mid-run at which the device becomes too small."""


def run(machine: Machine) -> Found:
    """Measures what a run needs beside its base, then gives it less and less; the plan believes that there is room."""
    rows: list[dict[str, Any]] = []
    with bench(machine, SD1, half(machine)) as on:
        on.host.memory.free = lambda: 1 << 40  # type: ignore[method-assign]
        base = machine.allocated()
        machine.new_peak()
        on.train(**BATCH)
        need = machine.peak()[1] - base
        machine.free_everything()
        left = machine.allocated() - base
        for share in machine.in_time(SHARES if machine.is_gpu else SHARES[-1:]):
            with machine.kept_to(base + share * need):
                rows.append({"share": share, **_ended(on, BATCH)})
            machine.free_everything()
            rows[-1]["left"] = machine.allocated() - base
        rows.append({"share": SHARES[-1], "at": AT, **_in_mid_run(on, base + SHARES[-1] * need)})
        rows[-1]["left"] = machine.allocated() - base
    good = all(row["ended"] == "done" and abs(row["left"]) < 1 << 20 for row in rows) and bool(rows[-1]["savings"])
    ends = ", ".join(f"{row['share']:.0%}{' in mid-run' if 'at' in row else ''} {row['ended']}" for row in rows)
    return Found(
        good and abs(left) < 1 << 20,
        f"need {need / 2**30:.2f} GB; {ends}; left behind {max([left, *(row['left'] for row in rows)])} bytes",
        {"need": need, "left": left, "runs": rows},
    )


def _in_mid_run(on: Bench, size: float) -> dict[str, Any]:
    """The device becomes so small between two steps. A CPU's does not: there one batch fails with torch's own error."""

    def shrink(batch: int, losses: Any) -> Any:
        if batch == AT:
            on.machine.keep_to(size)
            if not on.machine.is_gpu:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Made up.")
        return losses

    try:
        with losses_through(shrink):
            return _ended(on, {**BATCH, "max_train_steps": AT + 3})
    finally:
        on.machine.keep_to(float("inf"))
        on.machine.free_everything()


def _ended(on: Bench, settings: dict[str, Any]) -> dict[str, Any]:
    """How a run ended, and what it told of memory."""
    try:
        outcome, record = on.train(**settings)
    except Exception as error:  # noqa: BLE001 - an error that was not recognised ends the run: the finding
        return {"ended": f"{type(error).__name__}: {error}", "savings": []}
    savings = [text for text in record.messages if text.startswith("Out of memory")]
    return {"ended": outcome.state, "savings": savings}


CASE = Case("full_memory", "Full memory is recognised, in mid-run too, and a run goes on with less of it.", 30, 45, run)
