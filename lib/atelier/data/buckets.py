"""Aspect buckets: the sizes at which pictures are trained, chosen as kohya does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from atelier.config.datasets import Dataset
from atelier.config.errors import AtelierError, Problem, SettingsError

Size = tuple[int, int]
"""(width, height) in pixels."""

LATENT_STEP = 8
"""Pixels per latent cell, on each side."""


@dataclass(frozen=True)
class Fit:
    """How a picture is fitted to its bucket: resized to `resized`, which covers `bucket`, then cropped to `bucket`."""

    bucket: Size
    resized: Size


def make_bucket_resolutions(resolution: Size, minimum: int, maximum: int, step: int) -> list[Size]:
    """All buckets up to the area of `resolution`, with sides from `minimum` to `maximum` in multiples of `step`.

    The same list as sd-scripts' function of this name (library/model_util.py): the square, and for each width the
    tallest height that the area allows, both ways round; sorted.
    """
    area = resolution[0] * resolution[1]
    square = int(math.sqrt(area) // step) * step
    sizes = {(square, square)} if square else set()
    for width in range(minimum, maximum + 1, step):
        height = min(maximum, area // width // step * step)
        if height >= minimum:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


class Buckets:
    """The buckets of one dataset.

    kohya refuses a resolution outside of min_bucket_reso and max_bucket_reso. Here the bounds are widened, so that a
    small resolution works with the usual bounds.
    """

    def __init__(
        self,
        resolution: Size,
        enabled: bool = True,
        minimum: int = 256,
        maximum: int = 1024,
        step: int = 64,
        no_upscale: bool = False,
    ) -> None:
        if step < LATENT_STEP or step % LATENT_STEP:
            allowed = f"it must be a multiple of {LATENT_STEP}, such as 64"
            raise SettingsError([Problem("bucket_reso_steps", step, allowed)])
        if min(resolution) < LATENT_STEP:
            allowed = "width and height must be at least 8 pixels"
            raise SettingsError([Problem("resolution", f"{resolution[0]},{resolution[1]}", allowed)])
        self.resolution = _floor(resolution, LATENT_STEP)
        self.no_upscale = no_upscale and enabled
        self.step = min(step, min(self.resolution))
        self._area = resolution[0] * resolution[1]
        if enabled:
            low = max(self.step, min(minimum, min(resolution)) // self.step * self.step)
            high = math.ceil(max(maximum, max(resolution)) / self.step) * self.step
            self.sizes = make_bucket_resolutions(resolution, low, high, self.step) or [self.resolution]
        else:
            self.sizes = [self.resolution]

    @classmethod
    def of(cls, dataset: Dataset) -> Buckets:
        """The buckets of a dataset's settings. Raises `SettingsError` for a step that is not a multiple of 8."""
        return cls(
            dataset.resolution,
            dataset.enable_bucket,
            dataset.min_bucket_reso,
            dataset.max_bucket_reso,
            dataset.bucket_reso_steps,
            dataset.bucket_no_upscale,
        )

    def fit(self, size: Size) -> Fit:
        """The bucket for a picture of `size`, and the size it is resized to.

        It is the bucket with the nearest aspect ratio, or the picture's own size if that is a bucket. With no_upscale,
        it is the largest multiple of the step inside the picture, which is shrunk first if it has more pixels than the
        resolution; the bounds of sides do not hold then. Raises `AtelierError` when the picture is smaller than one
        latent cell.
        """
        if min(size) < 1:
            raise AtelierError("the picture has no pixels")
        if self.no_upscale:
            return self._fit_downwards(size)
        ratio = size[0] / size[1]
        bucket = size if size in self.sizes else min(self.sizes, key=lambda bucket: abs(bucket[0] / bucket[1] - ratio))
        return Fit(bucket, cover(size, bucket))

    def bucket_for(self, size: Size) -> Size:
        """(width, height) of the bucket for a picture of `size`."""
        return self.fit(size).bucket

    def _fit_downwards(self, size: Size) -> Fit:
        resized = size
        if size[0] * size[1] > self._area:
            ratio = size[0] / size[1]
            width = math.sqrt(self._area * ratio)
            by_width, by_height = self._rounded(width), self._rounded(self._area / width)
            # One side is put on a multiple of the step: the side for which the other comes nearer to a multiple.
            height_error = _ratio_error(by_width, self._rounded(by_width / ratio), ratio)
            width_error = _ratio_error(self._rounded(by_height * ratio), by_height, ratio)
            if height_error < width_error:
                resized = (by_width, _nearest(by_width / ratio))
            elif by_height:
                resized = (_nearest(by_height * ratio), by_height)
            else:  # the picture is so narrow that its short side is less than a step
                resized = (_nearest(width), _nearest(self._area / width))
        bucket = (self._inside(resized[0]), self._inside(resized[1]))
        if min(bucket) < LATENT_STEP:
            raise AtelierError(f"with {size[0]} x {size[1]} pixels the picture is too small or too narrow")
        return Fit(bucket, resized)

    def _rounded(self, side: float) -> int:
        whole = _nearest(side)
        return whole - whole % self.step

    def _inside(self, side: int) -> int:
        """The largest multiple of the step in `side`, or of a latent cell when `side` is less than a step."""
        return side // self.step * self.step or side // LATENT_STEP * LATENT_STEP


def cover(size: Size, bucket: Size) -> Size:
    """`size` scaled to cover `bucket`: one side is equal, the other at least as large; rounded as kohya does."""
    if size[0] * bucket[1] > size[1] * bucket[0]:
        scale = bucket[1] / size[1]
    else:
        scale = bucket[0] / size[0]
    return max(bucket[0], _nearest(size[0] * scale)), max(bucket[1], _nearest(size[1] * scale))


def crop_box(resized: Size, bucket: Size, along: tuple[float, float] | None = None) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the crop in the resized picture: in its middle, or at a random place.

    `along`: two random numbers in [0, 1) that choose the place, each place equally likely.
    """
    spare = (resized[0] - bucket[0], resized[1] - bucket[1])
    if along is None:
        left, top = spare[0] // 2, spare[1] // 2
    else:
        left, top = int((spare[0] + 1) * along[0]), int((spare[1] + 1) * along[1])
    return left, top, left + bucket[0], top + bucket[1]


def size_condition_crop(size: Size, bucket: Size, flipped: bool) -> tuple[int, int]:
    """(top, left), SDXL's crop condition for a picture of `size` in `bucket`: kohya's get_crop_ltrb.

    It follows Stability's preprocessing: half of the margin that the picture, scaled to fit inside the bucket, leaves.
    For a flipped picture, left is counted from the other side.
    """
    ratio = size[0] / size[1]
    if bucket[0] / bucket[1] > ratio:
        width, height = bucket[1] * ratio, float(bucket[1])
    else:
        width, height = float(bucket[0]), bucket[0] / ratio
    left, top = (bucket[0] - width) // 2, (bucket[1] - height) // 2
    if flipped:
        left = bucket[0] - (left + width)
    return int(top), int(left)


def _floor(size: Size, step: int) -> Size:
    return size[0] // step * step, size[1] // step * step


def _nearest(value: float) -> int:
    return int(value + 0.5)


def _ratio_error(width: int, height: int, ratio: float) -> float:
    return abs(width / height - ratio) if height else math.inf
