"""Splits a batch into micro-batches, which are computed one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from atelier.data.batch import Batch


def split_batch(batch: Batch, count: int) -> Iterator[Batch]:
    """Yields `count` parts of nearly the same size in order, none without a picture.

    Each part knows its place in the global batch, which decides its share of the loss and its noise. So the gradients
    of the parts add up to those of the whole batch. A batch of one picture, or of none, is not split.
    """
    pictures = len(batch)
    count = max(1, min(count, pictures))
    if count == 1:
        yield batch
        return
    edges = [pictures * number // count for number in range(count + 1)]
    for start, stop in zip(edges, edges[1:]):
        rows = slice(start, stop)
        yield replace(
            batch,
            draws=batch.draws[rows],
            captions=batch.captions[rows],
            keys=batch.keys[rows],
            pictures=batch.pictures[rows],
            latents=None if batch.latents is None else batch.latents[rows],
            pixels=None if batch.pixels is None else batch.pixels[rows],
            masks=None if batch.masks is None else batch.masks[rows],
            loss_weights=batch.loss_weights[rows],
            original_sizes=batch.original_sizes[rows],
            crop_top_lefts=batch.crop_top_lefts[rows],
            target_sizes=batch.target_sizes[rows],
            first=batch.first + start,
        )
