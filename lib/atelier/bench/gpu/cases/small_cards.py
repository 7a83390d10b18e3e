"""SDXL at 1024 px on cards of 6, 8 and 12 GB, and SD 1.5 at 512 px on 3: runs that end well."""

from __future__ import annotations

from typing import Any

from atelier.bench.gpu.bases import SD1, SDXL, Base
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.runs import bench, half

CARDS: tuple[tuple[Base, float], ...] = ((SDXL, 12), (SDXL, 8), (SDXL, 6), (SD1, 3))
STEPS = 8


def run(machine: Machine) -> Found:
    """Whole runs, the memory plan's included, on a device that is kept to so much."""
    rows: list[dict[str, Any]] = []
    for base, size in machine.in_time(CARDS if machine.is_gpu else CARDS[-1:]):
        with bench(machine, base, half(machine)) as on, machine.kept_to(size * GB):
            if machine.is_gpu:
                on.host.memory.free = lambda size=size: int(size * GB) - machine.allocated()  # type: ignore[method-assign,misc]
            machine.new_peak()
            try:
                outcome, record = on.train(max_train_steps=STEPS)
                row: dict[str, Any] = {"ended": outcome.state, "messages": record.messages}
                row["seconds"] = record.view()["progress"]["seconds_per_step"]
            except Exception as error:  # noqa: BLE001 - how a run ends on a small card is the finding
                row = {"ended": f"{type(error).__name__}: {error}", "messages": [], "seconds": 0.0}
            rows.append({"model": base.name, "card": size, "peak": machine.peak()[1], **row})
    large = next((row["seconds"] for row in rows if row["model"] == SDXL.name and row["seconds"]), 0.0)
    says = ", ".join(
        f"{row['model']} on {row['card']:.0f} GB {row['ended']} ({row['peak'] / GB:.2f} GB, {row['seconds']:.2f} s"
        + (f", x{row['seconds'] / large:.2f})" if large and row["model"] == SDXL.name else ")")
        for row in rows
    )
    return Found(all(row["ended"] == "done" for row in rows), says, {"rows": rows})


CASE = Case("small_cards", "Runs end well on cards of 12, 8, 6 and 3 GB.", 90, 70, run)
