"""One picture as a tensor: range, place, mirror, masks and colours; and the keys that name the result."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.data.fingerprint import Fingerprints, content_key, latents_key, mask_key
from atelier.data.pixels import Making, load_mask, load_pixels, vary_colours


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """128 x 64: red grows to the right, green downwards."""
    values = np.zeros((64, 128, 3), np.uint8)
    values[..., 0] = np.arange(128) * 2
    values[..., 1] = np.arange(64)[:, None] * 4
    Image.fromarray(values).save(tmp_path / "ramp.png")
    return tmp_path / "ramp.png"


def test_untouched_pixels_are_exact(ramp: Path) -> None:
    loaded = load_pixels(ramp, Making((128, 64), (128, 64)))
    assert loaded.pixels.shape == (3, 64, 128) and loaded.pixels.dtype == torch.float32 and loaded.mask is None
    assert loaded.pixels[2].eq(-1).all()
    assert torch.allclose(loaded.pixels[0, 5], torch.arange(128) * 2 / 127.5 - 1)


def test_the_middle_is_cropped(ramp: Path) -> None:
    loaded = load_pixels(ramp, Making((64, 64), (128, 64)))
    assert torch.allclose(loaded.pixels[0, 0], torch.arange(32, 96) * 2 / 127.5 - 1)


def test_crop_elsewhere_and_mirror(ramp: Path) -> None:
    plain = load_pixels(ramp, Making((64, 64), (128, 64), along=(0.999, 0.0)))
    mirrored = load_pixels(ramp, Making((64, 64), (128, 64), along=(0.999, 0.0), flipped=True))
    assert torch.allclose(plain.pixels[0, 0], torch.arange(64, 128) * 2 / 127.5 - 1)
    assert torch.equal(plain.pixels.flip(2), mirrored.pixels)


@pytest.mark.parametrize(
    "interpolation", [None, "lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area"]
)
@pytest.mark.parametrize("resized", [(64, 32), (256, 128)])
def test_resizing_keeps_the_picture(ramp: Path, interpolation: str | None, resized: tuple[int, int]) -> None:
    loaded = load_pixels(ramp, Making(resized, resized, interpolation))
    assert loaded.pixels.shape == (3, resized[1], resized[0])
    middle = loaded.pixels[0, resized[1] // 2]
    assert torch.allclose(middle, torch.linspace(-1, 1, resized[0]), atol=0.06)


def test_a_large_jpeg_is_hardly_changed_by_decoding_it_small(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    large = Image.fromarray(values).resize((1600, 1200), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    large.save(tmp_path / "large.png")
    making = Making((128, 96), (128, 96))
    difference = load_pixels(tmp_path / "large.jpg", making).pixels - load_pixels(tmp_path / "large.png", making).pixels
    assert difference.abs().mean() < 0.01


def test_alpha_mask(tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 64), (9, 9, 9, 255))
    image.paste((9, 9, 9, 0), (0, 0, 20, 64))
    image.save(tmp_path / "a.png")
    loaded = load_pixels(tmp_path / "a.png", Making((64, 64), (64, 64)), alpha_mask=True)
    assert loaded.mask is not None and loaded.mask.shape == (1, 8, 8)
    assert loaded.mask[0, 0].tolist() == [0, 0, 0.5, 1, 1, 1, 1, 1]  # 20 = 2.5 latents
    mirrored = load_pixels(tmp_path / "a.png", Making((64, 64), (64, 64), flipped=True), alpha_mask=True)
    assert mirrored.mask is not None and torch.equal(mirrored.mask, loaded.mask.flip(2))
    assert load_pixels(tmp_path / "a.png", Making((64, 64), (64, 64))).mask is None


def test_mask_picture_of_another_size(tmp_path: Path) -> None:
    mask = Image.new("L", (320, 160), 0)
    mask.paste(255, (160, 0, 320, 160))
    mask.save(tmp_path / "mask.png")
    loaded = load_mask(tmp_path / "mask.png", Making((64, 64), (128, 64)))
    assert loaded.shape == (1, 8, 8) and loaded[0, 4].tolist() == pytest.approx([0, 0, 0, 0, 1, 1, 1, 1], abs=0.05)


def test_colours_change_a_little_and_repeatably(ramp: Path) -> None:
    image = Image.open(ramp)
    changed = 0
    for seed in range(300):
        varied = vary_colours(image, random.Random(seed))
        assert varied.mode == "RGB" and varied.size == image.size
        assert varied.tobytes() == vary_colours(image, random.Random(seed)).tobytes()
        changed += varied.tobytes() != image.tobytes()
    assert 60 < changed < 140  # a third
    plain = load_pixels(ramp, Making((128, 64), (128, 64))).pixels
    seeded = [load_pixels(ramp, Making((128, 64), (128, 64), color_seed=seed)).pixels for seed in range(12)]
    assert any(not torch.equal(plain, each) for each in seeded)


def test_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    with pytest.raises(AtelierError, match=r"a\.png"):
        load_pixels(tmp_path / "a.png", Making((64, 64), (64, 64)))


def test_fingerprints_follow_the_bytes(tmp_path: Path) -> None:
    path, known = tmp_path / "a", Fingerprints()
    path.write_bytes(b"one")
    assert known.of(path) == content_key(b"one") == known.of(path)
    stamp = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    if path.stat().st_ctime_ns != stamp.st_ctime_ns:
        assert known.of(path) == content_key(b"two")
    path.unlink()
    with pytest.raises(OSError):
        known.of(path)


def test_everything_that_shapes_latents_is_in_their_key() -> None:
    base = ("content", (512, 512), (512, 600), None, False)
    others = [
        ("Content", (512, 512), (512, 600), None, False), ("content", (512, 448), (512, 600), None, False),
        ("content", (512, 512), (512, 601), None, False), ("content", (512, 512), (512, 600), "area", False),
        ("content", (512, 512), (512, 600), None, True),
    ]  # fmt: skip
    keys = {latents_key(*each) for each in [base, *others]}
    keys |= {mask_key("content", source, (512, 512), (512, 600), False) for source in ("alpha", "0123")}
    assert len(keys) == 8 and latents_key(*base) in keys
