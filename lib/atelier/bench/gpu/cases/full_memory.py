"""A device that is too small by and by: errors are recognised, the run ends well, and all memory comes back."""

from __future__ import annotations

from typing import Any

from atelier.bench.gpu.bases import SD15
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.runs import bench, half

SHARES = (0.9, 0.7, 0.5)
BATCH: dict[str, Any] = {"train_batch_size": 4, "max_train_steps": 3, "network_train_unet_only": True}


def run(machine: Machine) -> Found:
    """Measures what a run needs beside its base, then gives it less and less; the plan believes that there is room."""
    rows: list[dict[str, Any]] = []
    with bench(machine, SD15, half(machine)) as on:
        base = machine.allocated()
        machine.new_peak()
        on.train(**BATCH)
        need = machine.peak()[1] - base
        machine.free_everything()
        left = machine.allocated() - base
        for share in SHARES:
            with machine.kept_to(base + share * need):
                on.host.memory.free = lambda: 1 << 40  # type: ignore[method-assign]
                try:
                    outcome, record = on.train(**BATCH)
                    ended, savings = outcome.state, [text for text in record.messages if "memory" in text.lower()]
                except Exception as error:  # noqa: BLE001 - an error that was not recognised ends the run: the finding
                    ended, savings = f"{type(error).__name__}: {error}", []
            machine.free_everything()
            rows.append({"share": share, "ended": ended, "savings": savings, "left": machine.allocated() - base})
    good = all(row["ended"] == "done" for row in rows) and all(abs(row["left"]) < 1 << 20 for row in rows)
    ends = ", ".join(f"{row['share']:.0%} {row['ended']}" for row in rows)
    return Found(
        good and abs(left) < 1 << 20,
        f"need {need / 2**30:.2f} GB; {ends}; left behind {max([left, *(row['left'] for row in rows)])} bytes",
        {"need": need, "left": left, "runs": rows},
    )


CASE = Case("full_memory", "Full memory is recognised, and a run goes on with less of it.", 30, 40, run)
