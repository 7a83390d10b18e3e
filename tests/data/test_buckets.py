"""Buckets agree with values worked out by hand from kohya's rules, and hold for any size."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.config.datasets import Dataset
from atelier.config.errors import AtelierError
from atelier.data.buckets import Buckets, Fit, cover, crop_box, make_bucket_resolutions, size_condition_crop

TALL = [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576)]


def test_the_buckets_of_512() -> None:
    """262144 / 320 = 819 -> 768, / 384 = 682 -> 640, / 448 = 585 -> 576, / 704 = 372 -> 320, / 832 = 315 -> 256 …"""
    expected = sorted([*TALL, (512, 512), *[(height, width) for width, height in TALL]])
    assert make_bucket_resolutions((512, 512), 256, 1024, 64) == expected


def test_the_buckets_of_an_oblong_resolution() -> None:
    """512 x 768 is the area of a 627 square, of which 576 is the nearest step below."""
    assert make_bucket_resolutions((512, 768), 512, 768, 64) == [
        (512, 704), (512, 768), (576, 576), (576, 640), (640, 576), (704, 512), (768, 512),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "bucket", "resized"),
    [
        ((1000, 1000), (512, 512), (512, 512)),
        ((100, 100), (512, 512), (512, 512)),
        ((4000, 3000), (576, 448), (597, 448)),  # 1.333 lies nearer to 1.286 than to 1.667
        ((3000, 4000), (448, 576), (448, 597)),
        ((1920, 1080), (640, 384), (683, 384)),  # 1.778 lies nearer to 1.667 than to 2.2
        ((5000, 500), (1024, 256), (2560, 256)),
        ((640, 384), (640, 384), (640, 384)),
    ],
)
def test_which_bucket(size: tuple[int, int], bucket: tuple[int, int], resized: tuple[int, int]) -> None:
    assert Buckets((512, 512)).fit(size) == Fit(bucket, resized)


@pytest.mark.parametrize(
    ("size", "bucket", "resized"),
    [
        ((300, 400), (256, 384), (300, 400)),  # small enough: cropped to steps, not resized
        ((500, 500), (448, 448), (500, 500)),
        ((1000, 1000), (512, 512), (512, 512)),
        ((4000, 3000), (512, 384), (512, 384)),  # 591 x 443: 576 x 384 is 1.5, 512 x 384 is 1.333 as the picture
        ((50, 700), (48, 640), (50, 700)),
    ],
)
def test_which_bucket_without_enlarging(
    size: tuple[int, int], bucket: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert Buckets((512, 512), no_upscale=True).fit(size) == Fit(bucket, resized)


def test_without_buckets_all_share_one_size() -> None:
    buckets = Buckets((512, 768), enabled=False)
    assert buckets.fit((1000, 1000)) == Fit((512, 768), (768, 768))
    assert buckets.fit((100, 900)) == Fit((512, 768), (512, 4608))
    assert Buckets((500, 500), enabled=False).bucket_for((9, 9)) == (496, 496)


@pytest.mark.parametrize("size", [(1000, 1000), (300, 400), (100, 900), (4000, 3000), (512, 512)])
def test_without_buckets_small_pictures_are_enlarged_whatever_is_asked(size: tuple[int, int]) -> None:
    """As in kohya's scripts, bucket_no_upscale is about buckets: all pictures of a batch have one size."""
    for resolution in ((512, 512), (512, 768)):
        asked = Buckets(resolution, enabled=False, no_upscale=True).fit(size)
        assert asked == Buckets(resolution, enabled=False).fit(size)
        assert asked.bucket == resolution


def test_bounds_give_way_to_a_small_resolution() -> None:
    assert Buckets((64, 64)).sizes == [(64, 64)]
    sizes = Buckets((64, 64), step=8, minimum=32).sizes
    assert (64, 64) in sizes and (32, 128) in sizes and all(width * height <= 4096 for width, height in sizes)
    assert Buckets((32, 32), step=64).sizes == [(32, 32)]
    assert max(max(size) for size in Buckets((1536, 1536), maximum=1024).sizes) == 1536


def test_from_a_dataset() -> None:
    dataset = Dataset(resolution=(256, 256), min_bucket_reso=128, max_bucket_reso=512, bucket_reso_steps=128)
    assert Buckets.of(dataset).sizes == [(128, 384), (128, 512), (256, 256), (384, 128), (512, 128)]


def test_what_no_latent_fits() -> None:
    with pytest.raises(AtelierError, match=r"Bucket step \(bucket_reso_steps\) is 12"):
        Buckets((512, 512), step=12)
    with pytest.raises(AtelierError, match="Resolution is '4,512'"):
        Buckets((4, 512))
    with pytest.raises(AtelierError, match="too small"):
        Buckets((512, 512), no_upscale=True).fit((7, 300))


def test_crops() -> None:
    assert crop_box((597, 448), (576, 448)) == (10, 0, 586, 448)
    assert crop_box((597, 448), (576, 448), (0.0, 0.0)) == (0, 0, 576, 448)
    assert crop_box((597, 448), (576, 448), (0.999999, 0.999999)) == (21, 0, 597, 448)


def test_what_sdxl_is_told() -> None:
    """1000 x 1000 in 576 x 448: as tall as the bucket it is 448 wide, 128 stay free, 64 on each side."""
    assert size_condition_crop((1000, 1000), (576, 448), False) == (0, 64)
    assert size_condition_crop((1000, 1000), (576, 448), True) == (0, 64)
    assert size_condition_crop((1000, 500), (512, 512), False) == (128, 0)
    # 448 * 0.999 = 447.552: 128.448 stay free, its half 64.224 rounds down to 64, from the other side 64.448
    assert size_condition_crop((999, 1000), (576, 448), True) == (0, 64)


def test_what_sdxl_is_told_of_a_flipped_picture() -> None:
    """255 x 256 in 512 x 256: 257 stay free, of which kohya's halves are 128 and, from the other side, 129."""
    assert size_condition_crop((255, 256), (512, 256), False) == (0, 128)
    assert size_condition_crop((255, 256), (512, 256), True) == (0, 129)
    # 256 x 255 in 256 x 512: what is free above and below is not flipped
    assert size_condition_crop((256, 255), (256, 512), False) == (128, 0)
    assert size_condition_crop((256, 255), (256, 512), True) == (128, 0)


SIDES = st.integers(1, 12000)


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(SIDES, SIDES),
    side=st.sampled_from([64, 96, 512, 1024]),
    step=st.sampled_from([8, 32, 64, 128]),
    enabled=st.booleans(),
    no_upscale=st.booleans(),
)
def test_any_size(size: tuple[int, int], side: int, step: int, enabled: bool, no_upscale: bool) -> None:
    buckets = Buckets((side, side), enabled, step=step, no_upscale=no_upscale)
    try:
        fit = buckets.fit(size)
    except AtelierError:
        assert buckets.no_upscale and (min(size) < 8 or max(size) / min(size) > 50)
        return
    assert all(each % 8 == 0 and each > 0 for each in fit.bucket)
    assert all(inner <= outer for inner, outer in zip(fit.bucket, fit.resized))
    rounding = 2 * max(fit.resized) if buckets.no_upscale else 0  # sides are rounded up by at most half a pixel
    assert fit.bucket[0] * fit.bucket[1] <= side * side + rounding
    if buckets.no_upscale:
        assert fit.resized[0] <= size[0] + 1 and fit.resized[1] <= size[1] + 1
    else:
        assert fit.bucket in buckets.sizes and fit.resized == cover(size, fit.bucket)
        assert fit.bucket[0] == fit.resized[0] or fit.bucket[1] == fit.resized[1]
    left, top, right, bottom = crop_box(fit.resized, fit.bucket, (0.7, 0.3))
    assert min(left, top) >= 0 and right <= fit.resized[0] and bottom <= fit.resized[1]


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(64, 6000), st.integers(64, 6000)),
    resolution=st.sampled_from([(64, 64), (512, 512), (512, 768), (1000, 600)]),
    step=st.sampled_from([8, 32, 64]),
    enabled=st.booleans(),
    no_upscale=st.booleans(),
)
def test_any_size_in_exact_numbers(
    size: tuple[int, int], resolution: tuple[int, int], step: int, enabled: bool, no_upscale: bool
) -> None:
    """What must hold is told by the arguments alone, in fractions, and by nothing that the buckets say."""
    buckets = Buckets(resolution, enabled, step=step, no_upscale=no_upscale)
    width, height = size
    try:
        fit = buckets.fit(size)
    except AtelierError:
        assert enabled and no_upscale and max(size) / min(size) > 50, "only what is too narrow is refused"
        return
    ratio = Fraction(width, height)
    if not enabled:
        assert fit.bucket == (resolution[0] // 8 * 8, resolution[1] // 8 * 8)
    if enabled and no_upscale:
        area = resolution[0] * resolution[1]
        if width * height <= area:
            assert fit.resized == size, "small enough: no pixel is touched"
        else:
            assert fit.resized[0] <= width and fit.resized[1] <= height
            assert fit.resized != size or (width - 1) * (height - 1) <= area, "less than a pixel too large may stay"
            assert abs(fit.resized[0] - fit.resized[1] * ratio) <= max(1, ratio), "the picture keeps its shape"
        for side, inner in zip(fit.resized, fit.bucket):
            assert inner == (side // step * step or side // 8 * 8), "as much of the picture as steps allow"
        return
    if enabled and size not in buckets.sizes:
        nearest = min(abs(Fraction(*bucket) - ratio) for bucket in buckets.sizes)
        assert abs(Fraction(*fit.bucket) - ratio) <= nearest + Fraction(1, 10**12)
    scale = max(Fraction(fit.bucket[0], width), Fraction(fit.bucket[1], height))
    for side, resized in zip(size, fit.resized):
        assert abs(resized - side * scale) <= Fraction(1, 2) + Fraction(1, 10**9), (
            "resized as far as it must, no further"
        )
