"""Faults put into a run on purpose, and torch's own switches for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from atelier.training import batch_losses


@contextmanager
def losses_through(change: Callable[[int, Any], Any]) -> Iterator[None]:
    """Inside the block each batch's losses are what `change` gives for the batch's number, from 1, and its losses."""
    usual = batch_losses.diffusion_losses
    count = 0

    def changed(*given: Any) -> Any:
        nonlocal count
        count += 1
        return change(count, usual(*given))

    batch_losses.diffusion_losses = changed  # type: ignore[assignment]
    try:
        yield
    finally:
        batch_losses.diffusion_losses = usual


@contextmanager
def deterministic() -> Iterator[None]:
    """Attention in matrix products and no kernel that adds in any order."""
    kept = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with attention("math"):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(kept[0], warn_only=kept[1])


KERNELS = ("flash", "mem_efficient", "cudnn", "math")
"""torch's implementations of attention on a GPU."""


@contextmanager
def attention(kernel: str) -> Iterator[None]:
    """Only this one of `KERNELS` inside the block. Raises `AttributeError` where this torch has no such kernel."""
    switches = {
        name: (getattr(torch.backends.cuda, f"enable_{name}_sdp"), getattr(torch.backends.cuda, f"{name}_sdp_enabled"))
        for name in KERNELS
        if hasattr(torch.backends.cuda, f"enable_{name}_sdp")
    }
    if kernel not in switches:
        raise AttributeError(f"torch {torch.__version__} has no {kernel} attention")
    before = {name: enabled() for name, (_, enabled) in switches.items()}
    try:
        for name, (switch, _) in switches.items():
            switch(name == kernel)
        yield
    finally:
        for name, (switch, _) in switches.items():
            switch(before[name])
