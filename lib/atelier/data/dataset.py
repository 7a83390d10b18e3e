"""The training data of a run as batches. Which pictures batch n uses depends only on the seed and n."""

from __future__ import annotations

import dataclasses
import functools
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from atelier.config.datasets import Subset
from atelier.config.errors import AtelierError
from atelier.config.settings.schema import Settings
from atelier.data.batch import Batch, Draw, Pixels
from atelier.data.buckets import size_condition_crop
from atelier.data.captions import final_caption
from atelier.data.groups import Variant, grouped
from atelier.data.plan import Plan, split, use_seed
from atelier.data.scan import Picture, Scan
from atelier.data.source import Item, Source, masks_of, pairs, stacked
from atelier.data.tensor_cache import TensorCache

log = logging.getLogger(__name__)


class TrainingData:
    """Batches without end, epoch after epoch, each in a new order.

    `on_problem(path, sentence)` is called once for each picture that is lost during the run, from the thread that
    asked for the batch. It may be set later.
    """

    def __init__(
        self,
        scan: Scan,
        settings: Settings,
        seed: int,
        batch_size_multiplier: int = 1,
        *,
        on_problem: Callable[[Path, str], None] | None = None,
        held_out: bool = False,
    ) -> None:
        """`batch_size_multiplier`: a global batch is this many times the batch size (kohya: number of processes).

        `held_out`: use the validation pictures (validation_split) instead of the others; see `validation`.
        """
        self.scan = scan
        self.settings = settings
        self.seed = seed
        self.on_problem = on_problem
        self._held_out = held_out
        training, validation = split(scan.pictures, scan.datasets, seed)
        self._indices = validation if held_out else training
        self._validates = bool(validation) and not held_out
        self._plan = Plan(scan.pictures, scan.datasets, self._indices, seed, batch_size_multiplier, held_out)
        self._subsets: dict[int, Subset] = {}
        self._source = Source(scan.pictures, settings.cache_latents, settings.masked_loss, self._problem)
        self._accumulation = max(1, settings.gradient_accumulation_steps)
        if settings.max_train_epochs:
            self._total_steps = -(-settings.max_train_epochs * self.batches_per_epoch // self._accumulation)
        else:
            self._total_steps = settings.max_train_steps

    @property
    def batches_per_epoch(self) -> int:
        """Number of global batches in an epoch."""
        return self._plan.batches_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch, rounded up."""
        return -(-self.batches_per_epoch // self._accumulation)

    @property
    def pictures(self) -> list[Picture]:
        """The pictures that are used, without those held out."""
        return [self.scan.pictures[index] for index in self._indices]

    @property
    def uses_per_epoch(self) -> int:
        """Number of pictures in an epoch, with repeats and class pictures."""
        return self._plan.uses_per_epoch

    def validation(self) -> TrainingData | None:
        """The pictures held out by validation_split, or None. Each comes once an epoch, in order, not augmented."""
        if not self._validates:
            return None
        return TrainingData(self.scan, self.settings, self.seed, on_problem=self.on_problem, held_out=True)

    def epoch_of(self, batch_index: int) -> int:
        """The epoch of a global batch, counted from 0."""
        return batch_index // self.batches_per_epoch

    def draws(self, batch_index: int) -> list[Draw]:
        """The pictures of global batch `batch_index`: a pure function of the seed and the index."""
        epoch, place = divmod(batch_index, self.batches_per_epoch)
        if self._held_out:
            epoch, batch_index = 0, place
        batches, starts = self._plan.epoch(epoch)
        step = batch_index // self._accumulation
        return [
            self._draw(index, repeat, epoch, starts[place] + offset, step)
            for offset, (index, repeat) in enumerate(batches[place])
        ]

    def network_multiplier(self, batch: Batch) -> float:
        """kohya's network_multiplier: the adapter's strength for a batch. All its pictures are of one dataset."""
        if not batch.draws:
            return 1.0
        return self.scan.datasets.datasets[self.scan.pictures[batch.draws[0].picture].dataset].network_multiplier

    def caption(self, draw: Draw) -> str:
        """The text that a draw is trained with."""
        picture = self.scan.pictures[draw.picture]
        return final_caption(
            picture.caption,
            self._subset(picture),
            random.Random(f"caption/{draw.seed}"),
            draw.epoch,
            draw.step,
            self.scan.trigger,
            self._total_steps,
        )

    def batch(self, batch_index: int, latents: TensorCache | None, rank: int = 0, world: int = 1) -> Batch:
        """The part of a global batch for process `rank` of `world`; it may be empty.

        It has latents when the cache has all of them. Otherwise it has pixels, and also the pixels of all pictures that
        are encoded together with them. A picture that was removed or changed since the run began is left out and
        reported, unless its latents are cached. When that leaves no picture, another one is used. Raises
        `AtelierError` when the run has no pictures left.
        """
        draws = self.draws(batch_index)
        first, last = len(draws) * rank // world, len(draws) * (rank + 1) // world
        part = draws[first:last]
        items = self._fetch(part, latents)
        if part and not items:
            items = self._substitute(part[0], latents)
        batch = self._assemble(items, first, len(items) if world == 1 else len(draws))
        batch.together = self._together(items, latents)
        return batch

    # -- fetching -------------------------------------------------------------------------------------------------

    def _fetch(self, draws: Sequence[Draw], latents: TensorCache | None) -> list[Item]:
        """Fetches all from the cache or all from their files. Lost pictures are missing from the result."""
        if latents is not None:
            cached = [self._source.cached(draw, self._subset_of(draw), latents) for draw in draws]
            found = [item for item in cached if item is not None]
            if len(found) == len(draws):
                return found
        return self._load(draws, latents)

    def _load(self, draws: Sequence[Draw], latents: TensorCache | None) -> list[Item]:
        loaded = (self._source.loaded(draw, self._subset_of(draw), latents) for draw in draws)
        return [item for item in loaded if item is not None]

    def _together(self, items: Sequence[Item], latents: TensorCache | None) -> list[Pixels]:
        """The groups of pictures that the VAE encodes together with `items`; none at a VAE batch size of 1."""
        if latents is None or self.settings.vae_batch_size <= 1:
            return []
        at_hand = {(item.draw.picture, item.draw.flipped): item for item in items if item.pixels is not None}
        groups: list[list[Draw]] = []
        for variant, item in at_hand.items():
            group = self._groups.get(variant)
            if group is not None and group not in groups and item.key not in latents:
                groups.append(group)

        def item_of(draw: Draw) -> Item | None:
            found = at_hand.get((draw.picture, draw.flipped))
            return found or self._source.loaded(draw, self._subset_of(draw), latents)

        members = ([one for draw in group if (one := item_of(draw)) is not None] for group in groups)
        return [Pixels([item.key for item in group], stacked(group)) for group in members]

    @functools.cached_property
    def _groups(self) -> dict[Variant, list[Draw]]:
        return grouped(
            self._variants(), lambda draw: self.scan.pictures[draw.picture].bucket, self.settings.vae_batch_size
        )

    def _substitute(self, lost: Draw, latents: TensorCache | None) -> list[Item]:
        """One picture for a batch that lost all of its own: the next picture of the run that can be read."""
        start = self._indices.index(lost.picture)
        others = self._indices[start + 1 :] + self._indices[:start]
        for wanted in (True, False):  # first a picture of the same kind: a training or a class picture
            for index in others:
                if (self.scan.pictures[index].is_reg == self.scan.pictures[lost.picture].is_reg) is not wanted:
                    continue
                item = self._fetch([self._draw(index, lost.repeat, lost.epoch, lost.position, lost.step)], latents)
                if item:
                    return item
        raise AtelierError(
            "None of the run's pictures can be read any more. Put them back where they were, then resume the run."
        )

    def _variants(self) -> Iterator[Draw]:
        """One draw for each tensor that can be cached, in the order in which the run needs them."""
        seen: set[tuple[int, bool]] = set()
        batches, starts = self._plan.epoch(0)
        for batch, start in zip(batches, starts):
            for offset, (index, repeat) in enumerate(batch):
                draw = self._draw(index, repeat, 0, start + offset, 0)
                if self._can_cache(draw) and (index, draw.flipped) not in seen:
                    seen.add((index, draw.flipped))
                    yield draw
        for index, flipped in sorted(seen):
            draw = self._draw(index, 0, 0, 0, 0)
            if (index, not flipped) not in seen and self._subset_of(draw).flip_aug:
                yield dataclasses.replace(draw, flipped=not flipped)

    # -- assembling -----------------------------------------------------------------------------------------------

    def _draw(self, index: int, repeat: int, epoch: int, position: int, step: int) -> Draw:
        seed = use_seed(self.seed, epoch, position)
        flips = self._subset(self.scan.pictures[index]).flip_aug
        return Draw(index, epoch, position, step, repeat, flips and random.Random(f"flip/{seed}").random() < 0.5, seed)

    def _assemble(self, items: Sequence[Item], first: int, total: int) -> Batch:
        pictures = [self.scan.pictures[item.draw.picture] for item in items]
        cached = [item.latents for item in items if item.latents is not None]
        prior = self.settings.prior_loss_weight
        weights = [picture.subset.loss_weight * (prior if picture.is_reg else 1.0) for picture in pictures]
        crops = [
            size_condition_crop(picture.size, picture.bucket, item.draw.flipped)
            for picture, item in zip(pictures, items)
        ]
        return Batch(
            draws=[item.draw for item in items],
            captions=[self.caption(item.draw) for item in items],
            keys=[item.key for item in items],
            pictures=[picture.path for picture in pictures],
            latents=torch.stack(cached).float() if cached else None,
            pixels=None if not items or cached else stacked(items),
            masks=masks_of(items, pictures),
            loss_weights=torch.tensor(weights, dtype=torch.float32),
            original_sizes=pairs([(picture.size[1], picture.size[0]) for picture in pictures]),
            crop_top_lefts=pairs(crops),
            target_sizes=pairs([(picture.bucket[1], picture.bucket[0]) for picture in pictures]),
            first=first,
            total=total,
        )

    def _can_cache(self, draw: Draw) -> bool:
        subset = self._subset_of(draw)
        return self.settings.cache_latents and not subset.color_aug and not subset.random_crop

    def _subset_of(self, draw: Draw) -> Subset:
        return self._subset(self.scan.pictures[draw.picture])

    def _subset(self, picture: Picture) -> Subset:
        """The picture's subset with the resampling of its dataset, and for validation without randomness."""
        key = id(picture.subset)
        if key not in self._subsets:
            dataset = self.scan.datasets.datasets[picture.dataset]
            subset = dataclasses.replace(
                picture.subset,
                resize_interpolation=picture.subset.resize_interpolation or dataset.resize_interpolation,
            )
            self._subsets[key] = dataclasses.replace(subset, **_STILL) if self._held_out else subset
        return self._subsets[key]

    def _problem(self, path: Path, reason: str) -> None:
        log.warning(reason)
        if self.on_problem is not None:
            self.on_problem(path, reason)


_STILL: dict[str, Any] = {
    "shuffle_caption": False,
    "caption_dropout_rate": 0.0,
    "caption_dropout_every_n_epochs": 0,
    "caption_tag_dropout_rate": 0.0,
    "token_warmup_step": 0.0,
    "flip_aug": False,
    "color_aug": False,
    "random_crop": False,
}
"""Settings that remove all randomness from a subset, for validation."""
