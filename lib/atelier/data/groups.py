"""Groups pictures that the VAE encodes together (vae_batch_size)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from atelier.data.batch import Draw

Variant = tuple[int, bool]
"""(index of the picture in the scan, True when it is mirrored)."""


def grouped(draws: Iterable[Draw], size_of: Callable[[Draw], tuple[int, int]], count: int) -> dict[Variant, list[Draw]]:
    """The group of each picture: up to `count` of one size, in the order in which they are given.

    The groups depend only on that order, not on what is cached already. A picture's latents can differ in their last
    bits with the pictures that are encoded beside it, and a resumed run must get the same latents.
    """
    found: dict[Variant, list[Draw]] = {}
    open_groups: dict[tuple[int, int], list[Draw]] = {}
    for draw in draws:
        group = open_groups.setdefault(size_of(draw), [])
        group.append(draw)
        found[draw.picture, draw.flipped] = group
        if len(group) == count:
            del open_groups[size_of(draw)]
    return found
