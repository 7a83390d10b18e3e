"""What each way of saving memory saves, and what it costs in time."""

from __future__ import annotations

from typing import Any

from atelier.bench.gpu.bases import SDXL
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import bench, half

WAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "checkpointing": {"gradient_checkpointing": True},
    "batch in halves": {"micro_batches": 2},
    "streamed": {"gradient_checkpointing": True, "streamed": True},
    "streamed fp8": {"gradient_checkpointing": True, "streamed": True, "fp8": True},
}


def run(machine: Machine) -> Found:
    """SDXL, batch 2, a LoRA of rank 16: peak and time of a step with each."""
    rows: dict[str, dict[str, float]] = {}
    with bench(machine, SDXL, half(machine)) as on:
        for name, savings in WAYS.items():
            machine.free_everything()
            machine.new_peak()
            with session_with(on, train_batch_size=2, **savings) as session:
                for _ in range(2):
                    session.take_step()
                seconds = machine.median_seconds(session.take_step, 3)
            rows[name] = {"peak": machine.peak()[0], "seconds": seconds}
    plain = rows["nothing"]
    says = ", ".join(
        f"{name} {row['peak'] / GB:.2f} GB x{row['seconds'] / plain['seconds']:.2f}" for name, row in rows.items()
    )
    saves = all(row["peak"] < plain["peak"] for name, row in rows.items() if name != "nothing")
    return Found(saves if machine.is_gpu else None, says, {"rows": rows})


CASE = Case("savings", "Each way of saving memory saves some.", 80, 60, run)
