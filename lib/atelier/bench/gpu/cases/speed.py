"""Our step beside the bare loop on the same modules; what of a step waits for the device, and how long that is idle."""

from __future__ import annotations

import statistics
import warnings
from typing import Any

import torch

from atelier.bench.gpu.bases import SDXL, all_bases
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import PICTURES, Bench, bench, half
from atelier.bench.steps import BareLoop
from atelier.training.progress.monitor import STEPS, longest_wait
from atelier.training.session import Session

RATIO = 1.03
"""A step of SDXL may take so many times the bare loop's."""
PAIRS = 3
WAYS = [
    (rank, checkpointing, precision)
    for rank in (16, 64)
    for checkpointing in (True, False)
    for precision in ("bf16", "fp16")
]
"""The ways to train, the most usual first."""


def run(machine: Machine) -> Found:
    """Pairs of as many steps of each as losses are read of at once, in turn; the ratio is the median of the pairs."""
    rows = []
    for base in machine.in_time(all_bases()):
        with bench(machine, base, half(machine)) as on:
            for rank, checkpointing, precision in machine.in_time(WAYS if machine.is_gpu else [(16, False, "no")]):
                rows.append(_measured(on, rank, checkpointing, precision))
    ratios = [row["ratio"] for row in rows if row["model"] == SDXL.name]
    waits = sum(row["waits"] for row in rows if row["precision"] != "fp16")
    return Found(
        (max(ratios) <= RATIO and not waits) if machine.is_gpu else None,
        f"{', '.join(map(_short, rows[:4]))}; {waits} waits in bf16 steps",
        {"rows": rows},
    )


def _measured(on: Bench, rank: int, checkpointing: bool, precision: str) -> dict[str, Any]:
    machine = on.machine
    settings = {"mixed_precision": precision, "network_dim": rank, "network_alpha": rank}
    with session_with(on, gradient_checkpointing=checkpointing, **settings) as session:
        bare = BareLoop(session, on.base.side_on(machine))

        def floor(count: int = 1) -> None:
            with session.workplace.lease.turn():
                for _ in range(count):
                    bare.step()

        def ours(count: int) -> None:
            for _ in range(count):
                session.advance()

        ours(PICTURES)  # every picture's latents are then cached
        floor()
        wait = longest_wait(machine.device) if machine.is_gpu else 0.0
        count = max(1, min(STEPS, round(wait / machine.seconds(floor))))
        pairs = PAIRS if machine.is_gpu else 1
        both = [(machine.seconds(lambda: ours(count)), machine.seconds(lambda: floor(count))) for _ in range(pairs)]
        waits, busy = _waits(machine, session), _busy(machine, session)
        session.watch.on = True
        ours(2)
        parts = {name: seconds / 2 for name, seconds in session.watch.seconds.items()}
    return {
        "model": on.base.name, "side": on.base.side_on(machine), "rank": rank, "precision": precision,
        "checkpointing": checkpointing, "ours": statistics.median(one for one, _ in both) / count,
        "bare": statistics.median(one for _, one in both) / count, "count": count,
        "ratio": statistics.median(one / other for one, other in both), "waits": waits,
        "idle": None if busy is None else 1 - busy, "parts": parts,
    }  # fmt: skip


def _short(row: dict[str, Any]) -> str:
    how = f"{row['precision']}{' checkpointed' if row['checkpointing'] else ''} {row['rank']}"
    idle = "" if row["idle"] is None else f", {row['idle']:.0%} idle"
    return f"{row['model']} {how} {row['ours']:.3f} s ({row['ratio']:.3f}{idle})"


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
    """The share of three steps' time in which the GPU computes; None where the profiler cannot tell."""
    if not machine.is_gpu:
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        seconds = machine.wall_seconds(lambda: [session.take_step() for _ in range(3)])
    used = sum(_on_device(event) for event in seen.key_averages())
    return min(1.0, used / 1e6 / seconds) if used else None


def _on_device(event: Any) -> float:
    """Microseconds on the device. torch before 2.5 calls them CUDA's."""
    return float(getattr(event, "self_device_time_total", 0.0) or getattr(event, "self_cuda_time_total", 0.0))


CASE = Case("speed", "A step takes next to nothing more than the bare loop, and waits for nothing.", 70, 110, run)
