"""Peaks of real steps against what was predicted, for every family and the settings that people train with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch.profiler import ProfilerActivity, profile

from atelier.bench.gpu.bases import all_bases
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import PICTURES, Bench, bench, half
from atelier.models.sampling.sample import decode
from atelier.models.unet.call import weight_dtype
from atelier.models.unet.vae_encoding import encode
from atelier.training.memory.vae import predict_vae

WAYS = [
    (precision, checkpointing, rank)
    for rank in (16, 64)
    for checkpointing in (True, False)
    for precision in ("fp16", "bf16")
]
WITHIN = 0.1


def run(machine: Machine) -> Found:
    """Peaks of allocated bytes while pictures are cached, and of a step after that; the VAE alone beside them."""
    rows: list[dict[str, Any]] = []
    vae: dict[str, dict[str, dict[str, int]]] = {}
    for base in machine.in_time(all_bases()):
        with bench(machine, base, half(machine)) as on:
            vae[base.name] = _vae(on)
            for way in machine.in_time(WAYS if machine.is_gpu else [("no", True, 16)]):
                rows.append(_measured(on, *way))
    errors = [abs(row["predicted"] / row["allocated"] - 1) for row in rows if row["allocated"] and row["predicted"]]
    worst = max(errors, default=0.0)
    alone = ", ".join(
        f"VAE of {name} {what} {found[what]['measured'] / GB:.2f} ({found[what]['predicted'] / GB:.2f})"
        for name, found in list(vae.items())[:2]
        for what in found
        if found[what]["predicted"]
    )
    return Found(
        worst <= WITHIN if machine.is_gpu else None,
        f"{len(rows)} cases, predictions within {worst:.0%} of the measured peak, "
        f"{', '.join(map(_short, rows[:4]))}; {alone}",
        {"rows": rows, "worst": worst, "vae": vae},
    )


def _measured(on: Bench, precision: str, checkpointing: bool, rank: int) -> dict[str, Any]:
    machine = on.machine
    machine.free_everything()
    machine.new_peak()
    settings = {"mixed_precision": precision, "network_dim": rank, "network_alpha": rank}
    with session_with(on, gradient_checkpointing=checkpointing, **settings) as session:
        for _ in range(PICTURES):  # each is encoded by the step that first needs it
            session.take_step()
        first = machine.peak()
        machine.new_peak()
        session.take_step()
        step = machine.peak()
    found = on.predicted(precision, gradient_checkpointing=checkpointing, **settings)
    return {
        "model": on.base.name, "precision": precision, "checkpointing": checkpointing, "rank": rank,
        "allocated": max(first[0], step[0]), "reserved": max(first[1], step[1]),
        "allocated_with_caching": first[0], "allocated_in_a_step": step[0],
        "predicted": 0 if found is None else found.peak, "predicted_caching": 0 if found is None else found.caching,
        "predicted_step": 0 if found is None else found.step,
    }  # fmt: skip


def _vae(on: Bench) -> dict[str, dict[str, int]]:
    """What encoding and decoding a picture takes beside the weights, workspaces of kernels included.

    In half precision a run encodes with channels last, for which no workspace is predicted; channels first are beside.
    """
    assert on.host.current is not None
    machine, parts, side = on.machine, on.host.current.parts, on.base.side_on(on.machine)
    vae = parts.vae
    if vae is None:
        return {}
    pixels = torch.zeros(1, 3, side, side, device=machine.device)
    latent = side // parts.family.pixel_step
    latents = torch.zeros(1, parts.family.latent_channels, latent, latent, device=machine.device)
    works: dict[str, Callable[[], object]] = {
        "encoding": lambda: parts.family.posterior(vae, pixels),
        "decoding": lambda: decode(parts, latents),
    }
    if isinstance(vae, AutoencoderKL):
        works["encoding, channels first"] = lambda: encode(vae, pixels.to(weight_dtype(vae)))
    found = {}
    for name, work in works.items():
        machine.free_everything()
        before = machine.allocated()
        machine.new_peak()
        with torch.no_grad():
            work()
            found[name] = {"measured": machine.peak()[0] - before, "predicted": 0}
            found[name]["rearranged"] = _rearranged(machine, work)
    try:
        predicted = predict_vae(on.request("bf16" if machine.is_gpu else "no"))
    except (AttributeError, LookupError, TypeError, ValueError):
        return found  # `_measured` notes that this family is not predicted
    found["encoding"]["predicted"], found["decoding"]["predicted"] = predicted.encoding, predicted.decoding
    return found


def _rearranged(machine: Machine, work: Callable[[], object]) -> int:
    """How many of cuDNN's kernels only rearrange tensors for others, by their names."""
    if not machine.is_gpu:
        return 0
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        machine.synchronize()
    return sum(event.count for event in seen.key_averages() if re.search("nchwtonhwc|nhwctonchw", event.key.lower()))


def _short(row: dict[str, Any]) -> str:
    how = "checkpointed" if row["checkpointing"] else "plain"
    sizes = f"{row['allocated'] / GB:.2f} ({row['predicted'] / GB:.2f})"
    return f"{row['model']} {row['precision']} {how} {row['rank']}: {sizes}"


CASE = Case("memory", "The memory of a step is what was predicted.", 60, 110, run)
