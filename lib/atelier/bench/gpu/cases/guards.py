"""A loss that becomes NaN in the middle of a run, and a moving average of the weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from atelier.adapters.files.kohya_file import read_lora
from atelier.bench.gpu.bases import SD1
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.meddling import losses_through
from atelier.bench.gpu.runs import Bench, bench, half
from atelier.training.progress.monitor import OVERFLOWS

STEPS = 8
AT = 4
"""The step whose loss is spoilt."""


def run(machine: Machine) -> Found:
    """Without a scaler one spoilt loss sends the run back with half the rate; fp16's scaler bears one, and not many."""
    ways = {"bf16, one": ("bf16", 1), "fp16, one": ("fp16", 1), "fp16, many": ("fp16", OVERFLOWS + 1)}
    if not machine.is_gpu:
        ways = {"one": ("no", 1)}
    rows: dict[str, dict[str, Any]] = {}
    with bench(machine, SD1, half(machine)) as on:
        for name, (precision, count) in ways.items():
            rows[name] = {"asked": count, "precision": precision, **_spoilt(on, precision, count)}
        average = _average(on)
    good = all(
        row["ended"] == "done"
        and row["finite"]
        and row["went_back"] == (row["precision"] != "fp16" or row["asked"] > 1)
        for row in rows.values()
    )
    says = ", ".join(f"{name}: {row['ended']}{' after going back' if row['went_back'] else ''}"
                     for name, row in rows.items())  # fmt: skip
    return Found(
        good and average["finite"] and average["apart"] > 0,
        f"{says}; EMA apart by {average['apart']:.1e}",
        {"runs": rows, "average": average},
    )


def _spoilt(on: Bench, precision: str, count: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"mixed_precision": precision, "when_diverged": "lower", "save_every_n_steps": AT - 1}
    with losses_through(lambda step, losses: losses * (math.nan if AT <= step < AT + count else 1.0)):
        outcome, record = on.train(max_train_steps=STEPS + count, output_name="spoilt", **settings)
    went_back = any("became NaN" in text for text in record.messages)
    return {"ended": outcome.state, "finite": _finite(outcome.path), "went_back": went_back, "said": record.messages}


def _average(on: Bench) -> dict[str, Any]:
    """The file of the average beside that of the weights."""
    outcome, _ = on.train(max_train_steps=STEPS, output_name="average", ema_decay=0.9, ema_save="beside")
    assert outcome.path is not None
    [beside] = outcome.path.parent.glob("average*ema*.safetensors")
    weights, average = read_lora(outcome.path).tensors, read_lora(beside).tensors
    apart = max(float((average[name].float() - tensor.float()).abs().max()) for name, tensor in weights.items())
    return {"finite": _finite(outcome.path) and _finite(beside), "apart": apart}


def _finite(path: Path | None) -> bool:
    return path is not None and all(bool(tensor.isfinite().all()) for tensor in read_lora(path).tensors.values())


CASE = Case("guards", "A loss that becomes NaN costs no run its weights, and an average is kept.", 105, 40, run)
