"""What torch offers beside what we take: compiled blocks, another order in memory, other kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from atelier.bench.gpu.bases import Base, all_bases
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.meddling import KERNELS, attention
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import bench, half
from atelier.bench.steps import BareLoop, each_of
from atelier.training.session import Session

TIMES = 4
WARM_UP = 2
"""Steps with a choice before it is timed: what is compiled for the backward pass may come with the second."""
Choice = Callable[[Any, list[nn.Module]], AbstractContextManager[None]]


@contextmanager
def channels_last(denoiser: nn.Module, units: list[nn.Module]) -> Iterator[None]:
    """Kernels of convolutions with channels last. Views are changed here, never a host's own tensors."""
    kept = {name: parameter.data for name, parameter in denoiser.named_parameters()}
    denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        for name, parameter in denoiser.named_parameters():
            parameter.data = kept[name]


@contextmanager
def compiled(denoiser: nn.Module, units: list[nn.Module]) -> Iterator[None]:
    """Each repeated block by itself, so that one shape is compiled once."""
    on_gpu = next(denoiser.parameters()).device.type == "cuda"
    kept = [vars(unit).get("forward") for unit in units]
    for unit in units:  # on a CPU only the tracing is tried: compiling takes minutes there
        unit.forward = torch.compile(unit.forward, backend="inductor" if on_gpu else "eager")  # type: ignore[method-assign]
    try:
        yield
    finally:
        for unit, before in zip(units, kept):
            del unit.forward
            if before is not None:
                unit.forward = before


@contextmanager
def plain_attention(denoiser: Any, units: list[nn.Module]) -> Iterator[None]:
    """In matrix products instead of one fused kernel."""
    kept = dict(denoiser.attn_processors)
    denoiser.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        denoiser.set_attn_processor(kept)


def one_kernel(kernel: str, denoiser: nn.Module, units: list[nn.Module]) -> AbstractContextManager[None]:
    """One of torch's fused kernels of attention alone."""
    return attention(kernel)


CHOICES: dict[str, Choice] = {
    "compiled blocks": compiled, "channels last": channels_last, "plain attention": plain_attention,
    **{f"{kernel} attention": partial(one_kernel, kernel) for kernel in KERNELS},
}  # fmt: skip


def run(machine: Machine) -> Found:
    """The bare loop with each, beside the loop as it is; what it takes once, and when that is won back."""
    rows: list[dict[str, Any]] = []
    for base in machine.in_time(all_bases() if machine.is_gpu else all_bases()[:1]):
        rows += _measured(machine, base)
    says = ", ".join(
        f"{row['model']} {row['choice']} {row['ratio']:.3f}"
        + (f" after {row['pays_after']:.0f} steps" if row["pays_after"] is not None else "")
        for row in rows
    )
    return Found(None, says, {"rows": rows})


def _measured(machine: Machine, base: Base) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with bench(machine, base, half(machine)) as on, session_with(on, gradient_checkpointing=False) as session:
        bare = BareLoop(session, on.base.side_on(machine))
        parts = session.workplace.parts
        units = parts.family.units(parts.denoiser)[: None if machine.is_gpu else 2]
        with session.workplace.lease.turn():
            machine.seconds(bare.step)
            plain = machine.median_seconds(bare.step, TIMES)
            for name, choice in machine.in_time(CHOICES.items()):
                try:
                    with choice(parts.denoiser, units):
                        begun = machine.seconds(lambda: each_of(WARM_UP, bare.step))
                        seconds = machine.median_seconds(bare.step, TIMES)
                except Exception as error:  # noqa: BLE001 - a choice that does not work here is one less
                    machine.notes.append(f"{base.name} {name}: {type(error).__name__}: {error}".split("\n")[0])
                    continue
                rows.append(_row(base, name, plain, seconds, max(0.0, begun - WARM_UP * seconds)))
            rows += _optimizers(machine, base, session)
    return rows


def _row(base: Base, name: str, without: float, seconds: float, once: float) -> dict[str, Any]:
    won = without - seconds
    return {
        "model": base.name, "choice": name, "without": without, "seconds": seconds, "ratio": seconds / without,
        "once": once, "pays_after": once / won if won > 0 else None,
    }  # fmt: skip


def _optimizers(machine: Machine, base: Base, session: Session) -> list[dict[str, Any]]:
    """AdamW's step over the adapter's weights: one kernel for all, and several for many, beside one after the other."""
    weights = [torch.nn.Parameter(torch.zeros_like(weight)) for weight in session.learner.stepper.parameters]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    seconds, once = {}, {}
    for name, how in {"one by one": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}.items():
        try:
            optimizer = torch.optim.AdamW(weights, lr=1e-4, **how)
            once[name] = machine.seconds(optimizer.step)
            seconds[name] = machine.median_seconds(optimizer.step, TIMES)
        except RuntimeError as error:  # torch before 2.4 has no fused AdamW for a CPU
            machine.notes.append(f"{base.name} AdamW {name}: {error}".split("\n")[0])
    plain = seconds.pop("one by one")
    return [_row(base, f"AdamW {name}", plain, found, max(0.0, once[name] - found)) for name, found in seconds.items()]


CASE = Case("choices", "What torch's other choices bring, and after how many steps.", 120, 90, run)
