"""Uses accelerate for mixed precision and several processes, and restores its global state afterwards.

Gradients are summed over processes by our own code, in one buffer, instead of DDP: there are few trained weights, they
are inside another model's layers, and a process may have no picture of a batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn


def process_count() -> int:
    """The number of processes that train together: those that `accelerate launch` started, else one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def is_main_process() -> bool:
    """True in the process that saves files: the only process, or the first that `accelerate launch` started."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"


@contextmanager
def borrowed_accelerator(device: torch.device, precision: str) -> Iterator[Accelerator]:
    """An `Accelerator` for one session. Afterwards accelerate's global state and the environment are as before."""
    shared = [AcceleratorState._shared_state, PartialState._shared_state, GradientState._shared_state]
    before = [dict(state) for state in shared]
    environment = {key: value for key, value in os.environ.items() if key.startswith("ACCELERATE_")}
    launched = "LOCAL_RANK" in os.environ
    AcceleratorState._shared_state.clear()
    if not launched:
        PartialState._shared_state.clear()
    try:
        yield Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    finally:
        for state, old in zip(shared, before):
            if state is PartialState._shared_state and launched:
                continue
            state.clear()
            state.update(old)
        for key in [key for key in os.environ if key.startswith("ACCELERATE_") and key not in environment]:
            del os.environ[key]
        os.environ.update(environment)


def sum_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Sums the gradients of all processes. A process without a picture adds zeros."""
    if accelerator.num_processes == 1:
        return
    trained = list(parameters)
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in trained])
    flat = accelerator.reduce(flat, reduction="sum")
    offset = 0
    for parameter in trained:
        size = parameter.numel()
        parameter.grad = flat[offset : offset + size].view_as(parameter).to(parameter.dtype)
        offset += size
