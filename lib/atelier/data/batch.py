"""The words between data and training: which pictures a batch uses, and the batch itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

ONCE = "once-"
"""Begins the key of pixels that do not come again (random crop, varied colours): their latents are not kept."""


@dataclass(frozen=True)
class Draw:
    """One use of one picture; everything random about it follows from these numbers."""

    picture: int
    """Its place in `Scan.pictures`."""
    epoch: int
    position: int
    """Its place in the epoch, over all batches."""
    step: int
    """The optimiser step that uses it, from 0."""
    repeat: int
    """Which of the picture's uses in this epoch this is, from 0."""
    flipped: bool
    seed: int
    """Seeds its crop, its colours and its caption."""


@dataclass(frozen=True)
class Pixels:
    """What the VAE encodes at once: cache keys, and pixels [B, 3, H, W] float32 in -1..1."""

    keys: list[str]
    pixels: Tensor


@dataclass
class Batch:
    """What one process computes on in one micro-step: a part of a global batch, perhaps none of it (no captions).

    All pictures share one size. Either `latents` or `pixels` is given, or neither in a batch without pictures.
    """

    draws: list[Draw]
    captions: list[str]
    keys: list[str]
    """The cache keys of the latents; those that begin with `ONCE` are not worth keeping."""
    pictures: list[Path]
    latents: Tensor | None
    """[B, C, h, w] float32, samples of the VAE before the family's latent scale: they still have to be scaled."""
    pixels: Tensor | None
    """[B, 3, H, W] float32 in -1..1, where not every picture's latents were cached."""
    masks: Tensor | None
    """[B, 1, h, w] in 0..1, or None when every part of every picture counts."""
    loss_weights: Tensor
    """[B]: prior_loss_weight for regularisation pictures, 1 for others."""
    original_sizes: Tensor
    """[B, 2] int64 (height, width) of the pictures before they were resized."""
    crop_top_lefts: Tensor
    """[B, 2] int64 (top, left) in kohya's convention for SDXL."""
    target_sizes: Tensor
    """[B, 2] int64 (height, width) of the bucket."""
    first: int
    """The place of this part's first picture in the global batch."""
    total: int
    """Pictures in the global batch, over all processes."""
    together: list[Pixels] = field(default_factory=list)
    """To be encoded and cached before the batch's own pixels, which are among them; none where each goes alone."""

    def __len__(self) -> int:
        return len(self.captions)
