"""Plans which pictures each batch uses: a pure function of the seed and the batch's index."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from itertools import accumulate

from atelier.config.datasets import DatasetConfig
from atelier.data.scan import Picture

Use = tuple[int, int]
"""(index of the picture in the scan, number of this use of it in the epoch)."""


class Plan:
    """The batches of every epoch over some of a scan's pictures.

    Batches are made as in kohya's scripts. Within each dataset and bucket, the repeated pictures are shuffled and cut
    into batches; the last one may be smaller. Then all batches are shuffled.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        datasets: DatasetConfig,
        indices: Sequence[int],
        seed: int,
        batch_size_multiplier: int = 1,
        held_out: bool = False,
    ) -> None:
        """`indices`: the `pictures` that are used. `held_out`: each comes once an epoch, always in the same order."""
        self._seed = seed
        self._held_out = held_out
        self._groups: list[tuple[int, list[Use]]] = []
        for number, dataset in enumerate(datasets.datasets):
            members = [index for index in indices if pictures[index].dataset == number]
            counts = dict.fromkeys(members, 1) if held_out else _counts(pictures, members)
            buckets: dict[tuple[int, int], list[Use]] = {}
            for index, count in counts.items():
                buckets.setdefault(pictures[index].bucket, []).extend((index, repeat) for repeat in range(count))
            size = max(1, dataset.batch_size) * max(1, batch_size_multiplier)
            self._groups += [(size, buckets[bucket]) for bucket in sorted(buckets)]
        self.batches_per_epoch = sum(math.ceil(len(uses) / size) for size, uses in self._groups)
        self.uses_per_epoch = sum(len(uses) for _, uses in self._groups)
        self._made: dict[int, tuple[list[list[Use]], list[int]]] = {}

    def epoch(self, epoch: int) -> tuple[list[list[Use]], list[int]]:
        """The batches of an epoch, and for each the number of pictures before it in the epoch."""
        made = self._made.get(epoch)
        if made is None:
            made = self._make(epoch)
            # Two epochs are enough: the prefetching thread is at most one epoch ahead.
            self._made = {**{key: value for key, value in self._made.items() if abs(key - epoch) < 2}, epoch: made}
        return made

    def _make(self, epoch: int) -> tuple[list[list[Use]], list[int]]:
        rng = random.Random(f"order/{self._seed}/{epoch}")
        batches = []
        for size, uses in self._groups:
            ordered = list(uses)
            if not self._held_out:
                rng.shuffle(ordered)
            batches += [ordered[start : start + size] for start in range(0, len(ordered), size)]
        if not self._held_out:
            rng.shuffle(batches)
        return batches, [0, *accumulate(len(batch) for batch in batches)][:-1]


def use_seed(seed: int, epoch: int, position: int) -> int:
    """A 63-bit seed for everything random about one use of a picture."""
    digest = hashlib.blake2b(f"use/{seed}/{epoch}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _counts(pictures: Sequence[Picture], members: Sequence[int]) -> dict[int, int]:
    """How often each picture comes in an epoch.

    Class pictures are repeated, or left out, until there are as many of them as training pictures. As in kohya's
    scripts, there is a first round with their own repeats, then one more of each in turn.
    """
    counts = {index: pictures[index].repeats for index in members if not pictures[index].is_reg}
    wanted = sum(counts.values())
    regular = [index for index in members if pictures[index].is_reg]
    total = 0
    added: dict[int, int] = {}
    while regular and total < wanted:
        for index in regular:
            more = 1 if index in added else pictures[index].repeats
            added[index] = added.get(index, 0) + more
            total += more
            if total >= wanted:
                break
    return {**counts, **added}


def split(pictures: Sequence[Picture], datasets: DatasetConfig, seed: int) -> tuple[list[int], list[int]]:
    """(training pictures, validation pictures), as indices into `pictures`.

    Of each subset the fraction validation_split, rounded down, is held out. validation_seed, or else the run's seed,
    picks the pictures. At least one picture stays in training, and class pictures are never held out.
    """
    held_out: set[int] = set()
    for number, dataset in enumerate(datasets.datasets):
        if dataset.validation_split <= 0:
            continue
        chosen = seed if dataset.validation_seed is None else dataset.validation_seed
        for subset in dataset.subsets:
            members = [
                index
                for index, picture in enumerate(pictures)
                if picture.dataset == number and picture.subset is subset and not picture.is_reg
            ]
            random.Random(f"validation/{chosen}").shuffle(members)
            keep = max(1, math.ceil(round(len(members) * (1 - dataset.validation_split), 6)))
            held_out.update(members[keep:])
    return [index for index in range(len(pictures)) if index not in held_out], sorted(held_out)
