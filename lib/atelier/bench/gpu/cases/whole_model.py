"""Dreambooth: a whole model in bf16 with steps inside the backward pass, its memory, and its rounding."""

from __future__ import annotations

from typing import Any

import torch

from atelier.bench.gpu.bases import SD1, SDXL
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.runs import Bench, bench, half
from atelier.training.optim.update import round_at_random

MOST = 24 * GB
SETTINGS: dict[str, Any] = {
    "train_whole_model": True, "full_bf16": True, "fused_backward_pass": True, "optimizer_type": "AdaFactor",
    "optimizer_args": ["relative_step=False", "scale_parameter=False", "warmup_init=False"],
    "gradient_checkpointing": True, "learning_rate": 1e-5, "max_train_steps": 3, "network_train_unet_only": False,
}  # fmt: skip


def run(machine: Machine) -> Found:
    """The peaks of SD 1.5 and SDXL, and the mean of many numbers rounded to bf16."""
    peaks: dict[str, int] = {}
    ends: dict[str, str] = {}
    predictions: dict[str, int] = {}
    for base in machine.in_time((SDXL, SD1) if machine.is_gpu else (SD1,)):
        with bench(machine, base, half(machine)) as on:
            # The WebUI gives its own model up for such a run; here it stays, and is not counted.
            kept = machine.allocated()
            machine.new_peak()
            outcome, _ = on.train(**SETTINGS)
            peaks[base.name], ends[base.name] = machine.peak()[0] - kept, outcome.state
            predictions[base.name] = _predicted(on)
    value = torch.full((1 << 20,), 1.0 + 2.0**-10, device=machine.device)
    rounded = torch.empty_like(value, dtype=torch.bfloat16)
    round_at_random(rounded, value, torch.Generator(machine.device).manual_seed(0))
    mean = float(rounded.double().mean())
    good = all(end == "done" for end in ends.values()) and abs(mean - (1.0 + 2.0**-10)) < 1e-4
    small = peaks.get(SDXL.name, 0) <= MOST
    says = ", ".join(f"{name} {size / GB:.2f} GB ({predictions[name] / GB:.2f})" for name, size in peaks.items())
    return Found(
        good and small,
        f"{says}; mean of the rounded {mean:.6f}",
        {"peaks": peaks, "predicted": predictions, "ends": ends, "mean": mean},
    )


def _predicted(on: Bench) -> int:
    """The predicted peak, 0 for a family that cannot be predicted."""
    found = on.predicted("no", **SETTINGS)
    return 0 if found is None else found.peak


CASE = Case("whole_model", "SDXL whole trains within 24 GB, and rounding keeps the mean.", 100, 60, run)
