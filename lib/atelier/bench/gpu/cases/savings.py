"""What each way of saving memory saves, and what it costs in time."""

from __future__ import annotations

from typing import Any

from atelier.bench.gpu.bases import SD1, SDXL, Base
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import Bench, bench, half
from atelier.training.memory.plan import eight_bit_works

NOTHING = "nothing"
ADAPTER: dict[str, dict[str, Any]] = {
    NOTHING: {},
    "checkpointing": {"gradient_checkpointing": True},
    "batch in halves": {"micro_batches": 2},
    "streamed": {"gradient_checkpointing": True, "streamed": True},
    "streamed fp8": {"gradient_checkpointing": True, "streamed": True, "fp8": True},
}
WHOLE: dict[str, dict[str, Any]] = {
    NOTHING: {},
    "text and VAE off": {"text_and_vae_off": True},
    "8-bit optimizer": {"optimizer": "AdamW8bit"},
    "steps in the backward pass": {"fused_backward_pass": True},
}
"""For a whole model in bf16, with checkpointing in any case."""


def run(machine: Machine) -> Found:
    """Batch 2. SDXL with a LoRA of rank 16, SD 1 as a whole: peak and time of a step with each."""
    whole = {"train_whole_model": True, "full_bf16": True, "gradient_checkpointing": True, "optimizer_type": "AdamW"}
    tables = {
        "LoRA": _table(machine, SDXL, ADAPTER, {}),
        "whole model": _table(machine, SD1, WHOLE if eight_bit(machine) else _without_eight_bit(), whole),
    }
    says = "; ".join(f"{name}: {_short(rows)}" for name, rows in tables.items())
    saves = all(row["peak"] < rows[NOTHING]["peak"] for rows in tables.values() for name, row in rows.items()
                if name != NOTHING)  # fmt: skip
    return Found(saves if machine.is_gpu else None, says, {"tables": tables})


def eight_bit(machine: Machine) -> bool:
    """False, and noted, where bitsandbytes takes no step on this device."""
    if machine.is_gpu and eight_bit_works():
        return True
    machine.notes.append("bitsandbytes takes no step here: no 8-bit optimizer")
    return False


def _without_eight_bit() -> dict[str, dict[str, Any]]:
    return {name: how for name, how in WHOLE.items() if "optimizer" not in how}


def _table(
    machine: Machine, base: Base, ways: dict[str, dict[str, Any]], settings: dict[str, Any]
) -> dict[str, dict[str, float]]:
    with bench(machine, base, half(machine)) as on:
        return {name: _measured(on, {**settings, **how}) for name, how in machine.in_time(ways.items())}


def _measured(on: Bench, how: dict[str, Any]) -> dict[str, float]:
    machine = on.machine
    machine.free_everything()
    machine.new_peak()
    with session_with(on, train_batch_size=2, **how) as session:
        for _ in range(2):
            session.take_step()
        seconds = machine.median_seconds(session.take_step, 3 if machine.is_gpu else 1)
    return {"peak": machine.peak()[0], "seconds": seconds}


def _short(rows: dict[str, dict[str, float]]) -> str:
    plain = rows[NOTHING]["seconds"]
    return ", ".join(f"{name} {row['peak'] / GB:.2f} GB x{row['seconds'] / plain:.2f}" for name, row in rows.items())


CASE = Case("savings", "Each way of saving memory saves some.", 80, 70, run)
