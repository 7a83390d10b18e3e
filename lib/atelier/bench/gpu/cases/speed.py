"""Our step beside the bare loop on the same modules; what of a step waits for the device, and how long that is idle."""

from __future__ import annotations

import statistics
import warnings
from typing import Any

import torch

from atelier.bench.gpu.bases import SD15, SDXL
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import PICTURES, bench, half
from atelier.bench.steps import BareLoop
from atelier.training.session import Session

RATIO = 1.03
"""A step of SDXL may take so many times the bare loop's."""


def run(machine: Machine) -> Found:
    """Pairs of ten steps of each, in turn; the ratio is the median of the pairs."""
    rows = [
        _measured(machine, base, precision, checkpointing, pairs)
        for base, pairs in (((SDXL, 4), (SD15, 6)) if machine.is_gpu else ((SDXL, 1),))
        for precision in (("bf16", "fp16") if machine.is_gpu else ("no",))
        for checkpointing in ((True, False) if machine.is_gpu else (False,))
    ]
    ratios = [row["ratio"] for row in rows if row["model"] == SDXL.name]
    says = ", ".join(
        f"{row['model']} {row['precision']}{' checkpointed' if row['checkpointing'] else ''} {row['ours']:.3f} s "
        f"({row['ratio']:.3f})"
        for row in rows
    )
    waits = sum(row["waits"] for row in rows if row["precision"] != "fp16")
    return Found(
        (max(ratios) <= RATIO and not waits) if machine.is_gpu else None,
        f"{says}; {waits} waits in bf16 steps",
        {"rows": rows},
    )


def _measured(machine: Machine, base: Any, precision: str, checkpointing: bool, pairs: int) -> dict[str, Any]:
    at_once = 10 if machine.is_gpu else 2
    with bench(machine, base, half(machine)) as on:
        settings = {"mixed_precision": precision, "gradient_checkpointing": checkpointing}
        with session_with(on, **settings) as session:
            bare = BareLoop(session, base.side_on(machine))

            def floor() -> None:
                with session.workplace.lease.turn():
                    for _ in range(at_once):
                        bare.step()

            def ours() -> None:
                for _ in range(at_once):
                    session.advance()

            for _ in range(PICTURES):
                session.advance()
            floor()
            both = [(machine.seconds(ours) / at_once, machine.seconds(floor) / at_once) for _ in range(pairs)]
            waits = _waits(machine, session)
            busy = _busy(machine, session)
            session.watch.on = True
            for _ in range(3):
                session.advance()
            parts = {name: seconds / 3 for name, seconds in session.watch.seconds.items()}
    return {
        "model": base.name, "precision": precision, "checkpointing": checkpointing,
        "ours": statistics.median(one for one, _ in both), "bare": statistics.median(one for _, one in both),
        "ratio": statistics.median(one / other for one, other in both), "waits": waits, "busy": busy, "parts": parts,
    }  # fmt: skip


def _waits(machine: Machine, session: Session) -> int:
    """How often a step waits for the device, by torch's own warnings. The scaler of fp16 has to."""
    if not machine.is_gpu:
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(2):
                session.take_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in told)


def _busy(machine: Machine, session: Session) -> float | None:
    """The share of three steps' time in which the GPU computes."""
    if not machine.is_gpu:
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        seconds = machine.seconds(lambda: [session.take_step() for _ in range(3)])
    used = sum(getattr(event, "self_device_time_total", 0) for event in seen.key_averages()) / 1e6
    return min(1.0, used / seconds)


CASE = Case("speed", "A step takes next to nothing more than the bare loop, and waits for nothing.", 70, 100, run)
