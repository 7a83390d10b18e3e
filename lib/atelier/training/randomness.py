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
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        number = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[number])
    # torch.random.fork_rng does no more, in longer time, at every step.
    states = [each.get_state() for each in generators]
    value = derived_seed(seed, *purpose)
    try:
        for each in generators:
            each.manual_seed(value)
        yield
    finally:
        for each, state in zip(generators, states):
            each.set_state(state)
