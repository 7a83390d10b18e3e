"""Which pictures the VAE encodes together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from atelier.data.batch import Draw

Variant = tuple[int, bool]
"""A picture's place in the scan, and whether it is mirrored."""


def grouped(draws: Iterable[Draw], size_of: Callable[[Draw], tuple[int, int]], count: int) -> dict[Variant, list[Draw]]:
    """The group of each picture: up to `count` of one size, in the order in which they are given.

    The groups rest on that order alone, not on what is cached already: in their last bits, a picture's latents can
    depend on what is encoded beside it, and a run that goes on after a restart has to find the same ones.
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
