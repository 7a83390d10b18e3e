"""Peaks of real steps against what was predicted, for the models and settings that people train with."""

from __future__ import annotations

from typing import Any

import torch

from atelier.bench.gpu.bases import SD15, SDXL
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import Bench, bench, half
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import configs_of_parts, dtype_of, request_for

CASES = [
    (base, precision, checkpointing, rank)
    for base in (SDXL, SD15)
    for precision in ("fp16", "bf16")
    for checkpointing in (True, False)
    for rank in (16, 64)
]
WITHIN = 0.1


def run(machine: Machine) -> Found:
    """The peak of allocated bytes of a session from its start to its third step, caching included."""
    cases = CASES if machine.is_gpu else [(SD15, "no", True, 16)]
    rows: list[dict[str, Any]] = []
    vae: dict[str, dict[str, int]] = {}
    for base in (SDXL, SD15):
        with bench(machine, base, half(machine)) as on:
            for _, precision, checkpointing, rank in [case for case in cases if case[0] is base]:
                rows.append(_measured(on, precision, checkpointing, rank))
            vae[base.name] = _encoding(on)
    errors = [abs(row["predicted"] / row["allocated"] - 1) for row in rows if row["allocated"]]
    worst = max(errors, default=0.0)
    return Found(
        worst <= WITHIN if machine.is_gpu else None,
        f"{len(rows)} cases, predictions within {worst:.0%} of the measured peak, "
        + ", ".join(map(_short, rows[:4]))
        + "; "
        + ", ".join(
            f"VAE of {name} {row['measured'] / GB:.2f} ({row['predicted'] / GB:.2f})" for name, row in vae.items()
        ),
        {"rows": rows, "worst": worst, "vae": vae},
    )


def _measured(on: Bench, precision: str, checkpointing: bool, rank: int) -> dict[str, Any]:
    machine = on.machine
    machine.free_everything()
    machine.new_peak()
    settings = {"mixed_precision": precision, "network_dim": rank, "network_alpha": rank}
    with session_with(on, gradient_checkpointing=checkpointing, **settings) as session:
        for _ in range(3):
            session.take_step()
        allocated, reserved = machine.peak()
    found = _predicted(on, precision, checkpointing, settings)
    return {
        "model": on.base.name, "precision": precision, "checkpointing": checkpointing, "rank": rank,
        "allocated": allocated, "reserved": reserved, "predicted": found.peak, "caching": found.caching,
        "step": found.step,
    }  # fmt: skip


def _encoding(on: Bench) -> dict[str, int]:
    """What encoding one picture takes beside the weights: kernels of half precision may ask for room of their own."""
    assert on.host.current is not None
    machine, parts, side = on.machine, on.host.current.parts, on.base.side_on(on.machine)
    assert parts.vae is not None
    pixels = torch.zeros(1, 3, side, side, device=machine.device)
    machine.free_everything()
    before = machine.allocated()
    machine.new_peak()
    with torch.no_grad():
        parts.family.posterior(parts.vae, pixels)
    found = _predicted(on, "bf16" if machine.is_gpu else "no", True, {})
    beside = found.base + found.optimizer + found.kept + found.trained
    return {"measured": machine.peak()[0] - before, "predicted": max(0, found.caching - beside)}


def _predicted(on: Bench, precision: str, checkpointing: bool, settings: dict[str, Any]) -> Prediction:
    assert on.host.current is not None
    parts, side = on.host.current.parts, on.base.side_on(on.machine)
    job = on.job(gradient_checkpointing=checkpointing, **settings)
    request = request_for(
        job.settings, on.base.family, configs_of_parts(parts), (side, side), 1, precision,
        base_dtype=dtype_of(parts.denoiser), vae_dtype=dtype_of(parts.vae), device=on.machine.device.type,
    )  # fmt: skip
    with torch.device("cpu"):
        return predict(request)


def _short(row: dict[str, Any]) -> str:
    how = "checkpointed" if row["checkpointing"] else "plain"
    sizes = f"{row['allocated'] / GB:.2f} ({row['predicted'] / GB:.2f})"
    return f"{row['model']} {row['precision']} {how} {row['rank']}: {sizes}"


CASE = Case("memory", "The memory of a step is what was predicted.", 60, 110, run)
