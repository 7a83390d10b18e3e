"""Random choices that depend on the seed, the step and the purpose alone.

A run that paused, resumed or shared its device draws exactly what an undisturbed one draws, nothing of a generator's
inner state has to be saved, and the host's own generators are never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, *purpose: object) -> int:
    """A 63 bit seed from a seed and whatever tells one use from another, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator on the processor: numbers drawn there are the same whatever device trains."""
    return torch.Generator("cpu").manual_seed(derived_seed(seed, *purpose))


@contextmanager
def seeded_globals(device: torch.device, seed: int, *purpose: object) -> Iterator[None]:
    """Seeds torch's global generators inside the block, for layers that draw there (dropout), and puts them back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        value = derived_seed(seed, *purpose)
        torch.default_generator.manual_seed(value)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)
        yield
