"""The types between data and training: a draw (one use of one picture) and a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

ONCE = "once-"
"""Prefix of keys of pixels that never come again (random crop, varied colours). Their latents are not kept."""


@dataclass(frozen=True)
class Draw:
    """One use of one picture. These numbers decide everything random about it."""

    picture: int
    """Index of the picture in `Scan.pictures`."""
    epoch: int
    position: int
    """Index of the draw in its epoch, over all batches."""
    step: int
    """The optimizer step that uses it, from 0."""
    repeat: int
    """Counts the uses of the picture in this epoch, from 0."""
    flipped: bool
    seed: int
    """Seeds its crop, its colours and its caption."""


@dataclass(frozen=True)
class Pixels:
    """Pictures that the VAE encodes at once: cache keys, and pixels [B, 3, H, W] float32 in -1..1."""

    keys: list[str]
    pixels: Tensor


@dataclass
class Batch:
    """One process's part of a global batch; without pictures, its captions are empty.

    All pictures have the same size. Either `latents` or `pixels` is given, or neither in a batch without pictures.
    """

    draws: list[Draw]
    captions: list[str]
    keys: list[str]
    """Cache keys of the latents. Latents whose key starts with `ONCE` are not kept."""
    pictures: list[Path]
    latents: Tensor | None
    """[B, C, h, w] float32, samples of the VAE, not yet multiplied by the family's latent scale."""
    pixels: Tensor | None
    """[B, 3, H, W] float32 in -1..1, when not all latents were cached."""
    masks: Tensor | None
    """[B, 1, h, w] in 0..1, or None when every part of every picture counts."""
    loss_weights: Tensor
    """[B]: prior_loss_weight for class pictures, 1 for others."""
    original_sizes: Tensor
    """[B, 2] int64 (height, width) of the pictures before they were resized."""
    crop_top_lefts: Tensor
    """[B, 2] int64 (top, left) in kohya's convention for SDXL."""
    target_sizes: Tensor
    """[B, 2] int64 (height, width) of the bucket."""
    first: int
    """Index of this part's first picture in the global batch."""
    total: int
    """Number of pictures in the global batch, over all processes."""
    together: list[Pixels] = field(default_factory=list)
    """Groups, with the batch's own pixels in them, that are encoded and cached first. Empty at VAE batch size 1."""

    def __len__(self) -> int:
        return len(self.captions)
