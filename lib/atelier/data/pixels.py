"""Turns one picture into the tensor that a VAE encodes, with its mask."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.data.buckets import LATENT_STEP, Size, crop_box
from atelier.data.images import open_picture

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "linear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "cubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
"""Filters by kohya's names for resize_interpolation."""

_DECODE_MARGIN = 2
"""A JPEG is decoded at no less than this many times its resized size, so that our resampling decides how it looks."""


@dataclass
class Loaded:
    """A loaded picture: `pixels` [3, H, W] float32 in -1..1, and `mask` [1, H/8, W/8] in 0..1, None for no mask."""

    pixels: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Making:
    """How a picture is made into its tensor. `along`: where to crop, as for `crop_box`; None crops in the middle."""

    bucket: Size
    resized: Size
    interpolation: str | None = None
    flipped: bool = False
    along: tuple[float, float] | None = None
    color_seed: int | None = None
    """Seed of the colour change; None does not change colours."""


def load_pixels(path: Path, making: Making, data: bytes | None = None, alpha_mask: bool = False) -> Loaded:
    """Decodes, resizes, crops, recolours and flips one picture. `data`: its bytes, when they were read already.

    Raises `AtelierError` when it cannot be decoded.
    """
    enough = (making.resized[0] * _DECODE_MARGIN, making.resized[1] * _DECODE_MARGIN)
    opened = open_picture(path, data, at_least=enough)
    image = _placed(opened.image, making)
    if making.color_seed is not None:
        image = vary_colours(image, random.Random(making.color_seed))
    mask = None
    if alpha_mask and opened.mask is not None:
        mask = mask_tensor(_placed(opened.mask, making))
    return Loaded(pixel_tensor(image), mask)


def load_mask(path: Path, making: Making, data: bytes | None = None) -> Tensor:
    """A mask picture [1, H/8, W/8] in 0..1 from its red channel, cropped and flipped as its picture is.

    Raises `AtelierError` when it cannot be decoded.
    """
    return mask_tensor(_placed(open_picture(path, data).image.getchannel("R"), making))


def pixel_tensor(image: Image.Image) -> Tensor:
    """RGB as [3, H, W] float32: 0 becomes -1, 255 becomes 1."""
    values = torch.from_numpy(np.array(image, dtype=np.uint8))
    return values.permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1.0)


def mask_tensor(image: Image.Image) -> Tensor:
    """A grey picture as [1, H/8, W/8] float32 in 0..1: each value is the mean over the pixels of one latent cell."""
    values = torch.from_numpy(np.array(image, dtype=np.uint8)).float().div_(255.0)
    size = (values.shape[0] // LATENT_STEP, values.shape[1] // LATENT_STEP)
    return torch.nn.functional.interpolate(values[None, None], size=size, mode="area")[0]


def _placed(image: Image.Image, making: Making) -> Image.Image:
    """The image, resized, cropped and flipped."""
    if image.size != making.resized:
        shrinks = image.size[0] >= making.resized[0] and image.size[1] >= making.resized[1]
        chosen = _FILTERS.get((making.interpolation or "").lower())
        if chosen is None:
            chosen = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
        # A reducing_gap of 3 lets Pillow average whole blocks first. Its docs call the result indistinguishable.
        gap = 3.0 if shrinks and chosen != Image.Resampling.NEAREST else None
        image = image.resize(making.resized, chosen, reducing_gap=gap)
    image = image.crop(crop_box(making.resized, making.bucket, making.along))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if making.flipped else image


def vary_colours(image: Image.Image, rng: random.Random) -> Image.Image:
    """kohya's color_aug: of three pictures, two stay as they are. One has its hue turned or its gamma changed.

    The hue is turned by up to 16 degrees; the gamma is 0.95 to 1.05.
    """
    if rng.random() > 0.33:
        return image
    if rng.random() > 0.5:
        turn = rng.uniform(-16.0, 16.0) / 360.0 * 256.0
        hue, saturation, value = image.convert("HSV").split()
        hue = hue.point([int(round(level + turn)) % 256 for level in range(256)])
        return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    gamma = rng.uniform(0.95, 1.05)
    curve = [int(round(255.0 * (level / 255.0) ** gamma)) for level in range(256)]
    return image.point(curve * 3)
