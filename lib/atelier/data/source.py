"""Fetches the data of one draw: its cached latents, or its pixels from a file that must be unchanged."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from atelier.config.datasets import Subset
from atelier.config.errors import AtelierError
from atelier.data.batch import ONCE, Draw
from atelier.data.buckets import LATENT_STEP
from atelier.data.fingerprint import content_key, latents_key, mask_key
from atelier.data.found.masks import is_black
from atelier.data.images import picture_size
from atelier.data.pixels import Making, load_mask, load_pixels
from atelier.data.scan import Picture
from atelier.data.tensor_cache import TensorCache

OPAQUE = torch.ones(1, 1, 1)
"""The cached mask of a picture without a mask."""


@dataclass
class Item:
    """The data of one draw. Exactly one of `latents` and `pixels` is given. `mask` is None when all of it counts."""

    draw: Draw
    key: str
    latents: Tensor | None = None
    pixels: Tensor | None = None
    mask: Tensor | None = None


class Source:
    """Fetches pictures, and refuses a picture whose content changed since the run first used it."""

    def __init__(
        self, pictures: list[Picture], caches: bool, masked_loss: bool, on_problem: Callable[[Path, str], None]
    ) -> None:
        self._pictures = pictures
        self._caches = caches
        self._masked_loss = masked_loss
        self._on_problem = on_problem
        self._contents: dict[Path, str] = {}
        self._told: set[Path] = set()

    def cached(self, draw: Draw, subset: Subset, cache: TensorCache | None) -> Item | None:
        """The draw from the cache, or None."""
        if cache is None or not self._is_cacheable(subset):
            return None
        picture = self._pictures[draw.picture]
        try:
            key = self._latents_key(picture, subset, draw, self._content(picture.path))
            latents = cache.get(key)
            masks = None if latents is None else self._mask_key(picture, subset, draw)
            mask = cache.get(masks) if masks is not None else None
        except OSError:
            return None  # `loaded` will report it
        if latents is None or (masks is not None and mask is None):
            return None
        self._note_black(picture, subset, mask)
        return Item(draw, key, latents=latents, mask=None if mask is None or mask.shape == OPAQUE.shape else mask)

    def loaded(self, draw: Draw, subset: Subset, cache: TensorCache | None) -> Item | None:
        """The draw from its file, or None after reporting a problem."""
        picture = self._pictures[draw.picture]
        try:
            return self._load(picture, subset, draw, cache)
        except AtelierError as error:
            self._report(picture.path, str(error))
        return None

    def _load(self, picture: Picture, subset: Subset, draw: Draw, cache: TensorCache | None) -> Item:
        content, data = self._unchanged(picture.path, picture.size)
        keeps = cache is not None and self._is_cacheable(subset)
        making = self._making(picture, subset, draw)
        source = self._mask_source(picture, subset)
        loaded = load_pixels(picture.path, making, data, alpha_mask=source == "alpha")
        mask, masks = loaded.mask, None
        if isinstance(source, Path):
            mask_content, mask_data = self._unchanged(source, None)
            mask = load_mask(source, making, mask_data)
            masks = self._mask_key_of(picture, draw, content, mask_content)
        elif source is not None:
            masks = self._mask_key_of(picture, draw, content, source)
        self._note_black(picture, subset, mask)
        if cache is not None and keeps and masks is not None:
            cache.put(masks, OPAQUE if mask is None else mask)
        key = self._latents_key(picture, subset, draw, content) if keeps else f"{ONCE}{draw.epoch}-{draw.position}"
        return Item(draw, key, pixels=loaded.pixels, mask=mask)

    # -- what a file was, and is ----------------------------------------------------------------------------------

    def _content(self, path: Path) -> str:
        """The content key that the file had at its first use. Raises OSError when the first use is now and fails."""
        known = self._contents.get(path)
        return known if known is not None else self._contents.setdefault(path, content_key(path.read_bytes()))

    def _unchanged(self, path: Path, size: tuple[int, int] | None) -> tuple[str, bytes]:
        """(content key, bytes) of the file. Raises `AtelierError` when it was changed or is not as it was scanned."""
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise AtelierError(f"{path}: the picture was removed during the run and is no longer used.") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise AtelierError(f"{path}: the picture can no longer be read ({reason}) and is not used.") from error
        content = content_key(data)
        known = self._contents.get(path)
        if known not in (None, content) or (size is not None and picture_size(path, data) != size):
            raise AtelierError(f"{path}: the picture was changed during the run. Start a new run to use it.")
        return self._contents.setdefault(path, content), data

    def _note_black(self, picture: Picture, subset: Subset, mask: Tensor | None) -> None:
        """Says that nothing of a picture is learned, unless the scan has said it of its mask picture."""
        if mask is None or bool(mask.any()):
            return
        source = self._mask_source(picture, subset)
        if isinstance(source, Path) and is_black(source):
            return
        what = "its mask has nothing white in the part that is used"
        what = what if isinstance(source, Path) else "it is transparent all over"
        self._report(picture.path, f"{picture.path}: {what}, so nothing of it is learned.")

    def _report(self, path: Path, reason: str) -> None:
        if path not in self._told:
            self._told.add(path)
            self._on_problem(path, reason)

    # -- how it is made, and what that is called ------------------------------------------------------------------

    def _is_cacheable(self, subset: Subset) -> bool:
        return self._caches and not subset.color_aug and not subset.random_crop

    def _making(self, picture: Picture, subset: Subset, draw: Draw) -> Making:
        rng = random.Random(f"place/{draw.seed}")
        return Making(
            picture.bucket,
            picture.resized,
            subset.resize_interpolation,
            draw.flipped,
            (rng.random(), rng.random()) if subset.random_crop else None,
            draw.seed if subset.color_aug else None,
        )

    def _latents_key(self, picture: Picture, subset: Subset, draw: Draw, content: str) -> str:
        return latents_key(content, picture.bucket, picture.resized, subset.resize_interpolation, draw.flipped)

    def _mask_source(self, picture: Picture, subset: Subset) -> Path | str | None:
        """A mask picture, "alpha" or None. Without mask pictures, masked_loss uses the transparency like alpha_mask."""
        if self._masked_loss and subset.conditioning_data_dir:
            return picture.mask
        return "alpha" if subset.alpha_mask or self._masked_loss else None

    def _mask_key(self, picture: Picture, subset: Subset, draw: Draw) -> str | None:
        source = self._mask_source(picture, subset)
        if source is None:
            return None
        mask_content = self._content(source) if isinstance(source, Path) else source
        return self._mask_key_of(picture, draw, self._content(picture.path), mask_content)

    def _mask_key_of(self, picture: Picture, draw: Draw, content: str, mask_content: str) -> str:
        return mask_key(content, mask_content, picture.bucket, picture.resized, draw.flipped)


def stacked(items: Sequence[Item]) -> Tensor:
    """The pixels of the items that have pixels, [B, 3, H, W]."""
    return torch.stack([item.pixels for item in items if item.pixels is not None])


def pairs(values: Sequence[tuple[int, int]]) -> Tensor:
    """[N, 2], as whole numbers."""
    return torch.tensor(values, dtype=torch.int64).reshape(-1, 2)


def masks_of(items: Sequence[Item], pictures: Sequence[Picture]) -> Tensor | None:
    """[B, 1, h, w], ones for pictures without a mask; None when no picture has one."""
    if all(item.mask is None for item in items):
        return None
    rows = []
    for item, picture in zip(items, pictures):
        width, height = picture.bucket
        whole = torch.ones(1, height // LATENT_STEP, width // LATENT_STEP)
        rows.append(whole if item.mask is None else item.mask)
    return torch.stack(rows)
