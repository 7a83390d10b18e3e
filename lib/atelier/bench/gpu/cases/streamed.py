"""A denoiser in the CPU's memory whose blocks come as they compute: the same weights, and copies beside the work."""

from __future__ import annotations

import torch

from atelier.adapters.network import Network
from atelier.bench.gpu.bases import SDXL
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import Bench, bench, half
from atelier.models.checkpoints.size import bytes_of

STEPS, TIMED = 3, 5


def run(machine: Machine) -> Found:
    """The same steps with and without, and the time of each beside what the copies alone take."""
    with bench(machine, SDXL, half(machine)) as on:
        assert on.host.current is not None
        weights = bytes_of(on.host.current.parts.denoiser.parameters())
        plain, plain_seconds, plain_peak = _stepped(on, False)
        machine.free_everything()
        streamed, streamed_seconds, streamed_peak = _stepped(on, True)
    apart = max(float((streamed[name] - tensor).abs().max()) for name, tensor in plain.items())
    largest = max(float(tensor.abs().max()) for tensor in plain.values())
    bandwidth = _bandwidth(machine)
    copies = 2 * weights / bandwidth if bandwidth else 0.0
    alone, together = copies + plain_seconds, max(copies, plain_seconds)
    overlap = (alone - streamed_seconds) / (alone - together) if alone > together else 0.0
    same = apart <= 1e-3 * largest
    return Found(
        same and (overlap > 0.5 or not machine.is_gpu),
        f"largest difference {apart:.1e} of {largest:.1e}; {plain_seconds:.3f} s, streamed {streamed_seconds:.3f} s "
        f"({streamed_seconds / plain_seconds:.2f}), copies alone {copies:.3f} s, {overlap:.0%} of them overlap; "
        f"peak {plain_peak / GB:.2f} and {streamed_peak / GB:.2f} GB",
        {
            "difference": apart, "largest": largest, "plain_seconds": plain_seconds,
            "streamed_seconds": streamed_seconds, "copy_seconds": copies, "bandwidth": bandwidth, "overlap": overlap,
            "plain_peak": plain_peak, "streamed_peak": streamed_peak, "weights": weights,
        },
    )  # fmt: skip


def _stepped(on: Bench, streamed: bool) -> tuple[dict[str, torch.Tensor], float, int]:
    """The LoRA after some steps, a step's median time, and the peak of allocated bytes."""
    with session_with(on, streamed=streamed, gradient_checkpointing=True) as session:
        network = session.learner.network
        assert isinstance(network, Network)
        on.machine.new_peak()
        for _ in range(STEPS):
            session.take_step()
        trained = {name: tensor.float().cpu().clone() for name, tensor in network.trained_tensors().items()}
        seconds = on.machine.median_seconds(session.take_step, TIMED)
        return trained, seconds, on.machine.peak()[0]


def _bandwidth(machine: Machine) -> float:
    """Bytes a second from page-locked memory to the device."""
    if not machine.is_gpu:
        return 0.0
    source = torch.empty(256 << 20, dtype=torch.uint8, pin_memory=True)
    machine.seconds(lambda: source.to(machine.device, non_blocking=True))
    return source.numel() / machine.median_seconds(lambda: source.to(machine.device, non_blocking=True), 5)


CASE = Case("streamed", "Streamed blocks give the same weights, and their copies overlap with the work.", 50, 60, run)
