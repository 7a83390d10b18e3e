"""Random choices that depend only on the seed, the step and the purpose.

So a run that was paused, resumed or shared its device makes exactly the same choices as an undisturbed run. No state of
a generator has to be saved, and the host's own generators are not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from atelier.models.transfer import index_of


def derived_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed from a seed and a purpose; the same on every machine."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator on the CPU, so that its numbers are the same whatever device trains."""
    return torch.Generator("cpu").manual_seed(derived_seed(seed, *purpose))


@contextmanager
def seeded_globals(device: torch.device, seed: int, *purpose: object) -> Iterator[None]:
    """Seeds torch's global generators inside the block, for layers that use them (dropout), and restores them."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        generators.append(torch.cuda.default_generators[index_of(device)])
    # The same as torch.random.fork_rng, which takes longer at every step.
    states = [source.get_state() for source in generators]
    value = derived_seed(seed, *purpose)
    try:
        for source in generators:
            source.manual_seed(value)
        yield
    finally:
        for source, state in zip(generators, states):
            source.set_state(state)
