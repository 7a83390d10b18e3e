"""What torch offers beside what we take: compiled blocks, another order in memory, other attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from atelier.bench.gpu.bases import SDXL
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import bench, half
from atelier.bench.steps import BareLoop

TIMES = 4


@contextmanager
def channels_last(unet: nn.Module, units: list[nn.Module]) -> Iterator[None]:
    """Kernels of convolutions with channels last. Views are changed here, never a host's own tensors."""
    kept = {name: parameter.data for name, parameter in unet.named_parameters()}
    unet.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for name, parameter in unet.named_parameters():
            parameter.data = kept[name]


@contextmanager
def compiled(unet: nn.Module, units: list[nn.Module]) -> Iterator[None]:
    """Each repeated block by itself, so that one shape is compiled once."""
    for unit in units:
        unit.forward = torch.compile(unit.forward)
    try:
        yield
    finally:
        for unit in units:
            del unit.forward


@contextmanager
def plain_attention(unet: Any, units: list[nn.Module]) -> Iterator[None]:
    """In matrix products instead of one fused kernel."""
    unet.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        unet.set_attn_processor(AttnProcessor2_0())


CHOICES: dict[str, Callable[..., Any]] = {
    "channels last": channels_last, "plain attention": plain_attention, "compiled blocks": compiled,
}  # fmt: skip


def run(machine: Machine) -> Found:
    """The bare loop of SDXL with each, beside the loop as it is; what it takes once, and when that is won back."""
    rows: dict[str, dict[str, float]] = {}
    with bench(machine, SDXL, half(machine)) as on, session_with(on, gradient_checkpointing=False) as session:
        bare = BareLoop(session, on.base.side_on(machine))
        parts = session.workplace.parts
        units = parts.family.units(parts.denoiser)
        with session.workplace.lease.turn():
            machine.seconds(bare.step)
            plain = machine.median_seconds(bare.step, TIMES)
            for name, choice in CHOICES.items():
                if name == "compiled blocks" and not machine.is_gpu:
                    continue  # minutes of a C compiler, for a verdict about the CPU
                try:
                    with choice(parts.denoiser, units):
                        once = machine.seconds(bare.step)
                        seconds = machine.median_seconds(bare.step, TIMES)
                except Exception as error:  # noqa: BLE001 - a choice that does not work here is one less
                    machine.notes.append(f"{name}: {type(error).__name__}: {error}")
                    continue
                won = plain - seconds
                rows[name] = {"seconds": seconds, "ratio": seconds / plain, "once": once - seconds,
                              "pays_after": (once - seconds) / won if won > 0 else -1.0}  # fmt: skip
    says = ", ".join(
        f"{name} {row['ratio']:.3f}" + (f" after {row['pays_after']:.0f} steps" if row["pays_after"] > 0 else "")
        for name, row in rows.items()
    )
    return Found(None, f"plain {plain:.3f} s; {says}", {"plain": plain, "rows": rows, "notes": machine.notes})


CASE = Case("choices", "What torch's other choices bring, and after how many steps.", 120, 60, run)
