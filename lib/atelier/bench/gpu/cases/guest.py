"""What a run leaves behind of its host's: random states, modes, options, and the base, bit for bit."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from atelier.bench.gpu.bases import SD1
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.cases.kinds import kinds_here
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.runs import Bench, bench, half


def run(machine: Machine) -> Found:
    """Looks before and after a run of each kind of adapter."""
    kinds = kinds_here(machine)
    changed: dict[str, list[str]] = {}
    tried = 0
    with bench(machine, SD1, half(machine)) as on:
        for kind, settings in machine.in_time(kinds.items()):
            before = _state(on)
            on.train(max_train_steps=2, network_train_unet_only=False, **settings)
            after = _state(on)
            tried += 1
            different = [name for name, value in before.items() if after[name] != value]
            if different:
                changed[kind] = different
    says = "nothing changed" if not changed else "; ".join(f"{kind}: {', '.join(it)}" for kind, it in changed.items())
    return Found(not changed, f"{tried} kinds, {says}", {"tried": tried, "changed": changed})


def _state(on: Bench) -> dict[str, Any]:
    state: dict[str, Any] = {
        "the base": _checksum(on),
        "random state of the CPU": _digest(torch.get_rng_state()),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "precision of float32 products": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "default type": torch.get_default_dtype(),
        "autocast": torch.is_autocast_enabled(),
    }
    if on.machine.is_gpu:
        device = on.machine.device
        state |= {
            "random state of the GPU": _digest(torch.cuda.get_rng_state(device)),
            "current device": torch.cuda.current_device(),
            "current stream": torch.cuda.current_stream(device).stream_id,
            "TF32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
            "cuDNN": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.enabled),
            "fused attention": (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()),
        }
    return state


def _checksum(on: Bench) -> str:
    assert on.host.current is not None
    digest = hashlib.sha256()
    for parameter in on.host.current.parts.parameters():
        # Two sums over the bytes move with any of them; to fetch the bytes themselves would take minutes.
        found = parameter.detach().contiguous().flatten().view(torch.uint8).long()
        places = torch.arange(len(found), device=found.device) % 251
        digest.update(f"{int(found.sum())} {int((found * places).sum())}".encode())
    return digest.hexdigest()


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest()


CASE = Case("guest", "A run leaves the host's state and its base as they were.", 40, 40, run)
