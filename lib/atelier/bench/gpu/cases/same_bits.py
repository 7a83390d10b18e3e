"""A run that was killed and resumed, with pictures drawn between its steps, beside one that was left alone."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from typing import Any, cast

from atelier.adapters.files.kohya_file import read_lora
from atelier.bench.gpu.bases import SD1
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.cases.savings import eight_bit
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.meddling import deterministic
from atelier.bench.gpu.runs import Bench, Noted, bench, half
from atelier.hosts.contract import SampleRequest
from atelier.jobs.control import Control

STEPS = 6
NEAR = 0.02
"""Largest difference, as a share of the largest weight, where kernels may add in any order."""


def run(machine: Machine) -> Found:
    """The largest difference between both LoRAs. Fused attention adds in any order on a GPU: then once more without."""
    with bench(machine, SD1, half(machine)) as on:
        before = machine.allocated()
        rows = {"as it is": _compared(on, False)}
        if rows["as it is"]["difference"] and machine.is_gpu:
            rows["deterministic"] = _compared(on, True)
        if eight_bit(machine):
            rows["8-bit"] = _compared(on, True, optimizer_type="AdamW8bit")
        machine.free_everything()
        left = machine.allocated() - before
    exact = rows.get("deterministic", rows["as it is"])
    near = exact["difference"] == 0 and all(row["difference"] <= NEAR * row["largest"] for row in rows.values())
    whole = all(row["steps"] == STEPS and row["resumed"] for row in rows.values())
    says = ", ".join(f"{name} {row['difference']:.1e} of {row['largest']:.1e}" for name, row in rows.items())
    return Found(
        near and whole and abs(left) < 1 << 20,
        f"killed after {STEPS // 2} of {STEPS}; largest difference {says}; left behind {left} bytes",
        {"runs": rows, "left": left},
    )


def _compared(on: Bench, exact: bool, **changes: Any) -> dict[str, Any]:
    side = max(64, on.base.side_on(on.machine))
    killed = on.folder / f"killed-{on.runs}"
    settings: dict[str, Any] = {"max_train_steps": STEPS, "save_every_n_steps": STEPS // 2, **changes}

    def meddle(step: int, control: Control) -> None:
        """Draws, and takes the run's folder as a kill would leave it after half of the steps."""
        on.host.sample(SampleRequest("a cat", width=side, height=side, steps=2, seed=step))
        if any((record.folder / "state").glob("[0-9]*.safetensors")) and not killed.exists():
            shutil.copytree(record.folder, killed)

    with deterministic() if exact else nullcontext():
        straight, _ = on.train(**settings, output_name="straight")
        record = on.record()
        on.train(record, meddle, **settings, output_name="again")
        resumed = cast(Noted, Noted.open(killed))
        outcome, _ = on.train(resumed, **settings, output_name="again")
    assert straight.path is not None and outcome.path is not None
    expected, found = read_lora(straight.path).tensors, read_lora(outcome.path).tensors
    return {
        "difference": max(float((found[name].float() - it.float()).abs().max()) for name, it in expected.items()),
        "largest": max(float(it.float().abs().max()) for name, it in expected.items() if "alpha" not in name),
        "steps": outcome.steps, "resumed": f"Going on from step {STEPS // 2}." in resumed.messages,
    }  # fmt: skip


CASE = Case("same_bits", "A run that was killed, shared and resumed learns what one left alone does.", 110, 40, run)
