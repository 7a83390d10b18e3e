"""Pictures of every kind come out as upright RGB, and bad ones as a sentence that names them."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.data.images import can_read_avif, list_pictures, open_picture, picture_size
from atelier.data.wholeness import _ends_well, check_picture

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, size[0], size[1]))
    return image.convert(mode)


def near(pixel: object, expected: tuple[int, int, int], tolerance: int = 12) -> bool:
    return np.abs(np.subtract(pixel, expected)).max() <= tolerance


@pytest.mark.parametrize(
    "suffix",
    [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".avif", ".tif", ".tiff", ".PNG", ".TIF"],
)
def test_every_format(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and not can_read_avif():
        pytest.skip("this Pillow cannot write AVIF")
    path = tmp_path / f"picture{suffix}"
    halves().save(path)
    assert check_picture(path) == (40, 20)
    opened = open_picture(path)
    assert opened.image.mode == "RGB" and opened.image.size == (40, 20) and opened.mask is None
    assert near(opened.image.getpixel((4, 10)), RED) and near(opened.image.getpixel((36, 10)), BLUE)
    assert list_pictures(tmp_path) == [path]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Stored sideways with its orientation, read upright: corners of four colours tell all eight apart."""
    upright = Image.new("RGB", (64, 32), (0, 0, 0))
    corners = {(0, 0): RED, (32, 0): BLUE, (0, 16): (0, 255, 0), (32, 16): WHITE}
    for (x, y), colour in corners.items():
        upright.paste(colour, (x, y, x + 32, y + 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    """The transposition that stores an upright picture in this orientation: each one's inverse."""
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    keys = {"quality": 100} if suffix in (".jpg", ".webp") else {}
    stored.save(path, exif=exif if suffix == ".tif" else exif.tobytes(), **keys)
    assert picture_size(path) == (64, 32)
    opened = open_picture(path)
    assert opened.image.size == (64, 32)
    for (x, y), colour in corners.items():
        assert near(opened.image.getpixel((x + 16, y + 8)), colour, 20), orientation


def test_orientation_matches_pillow(tmp_path: Path) -> None:
    from PIL import ImageOps

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / "picture.png"
        Image.effect_noise((24, 16), 80).convert("RGB").save(path, exif=exif.tobytes())
        with Image.open(path) as image:
            assert open_picture(path).image.tobytes() == ImageOps.exif_transpose(image).convert("RGB").tobytes()


def test_alpha_lies_on_white_and_is_kept(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 128), (4, 4, 8, 8))
    image.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert opened.image.getpixel((1, 1)) == RED
    assert opened.image.getpixel((6, 1)) == WHITE
    assert near(opened.image.getpixel((6, 6)), (127, 127, 127), 2)
    assert opened.mask is not None and opened.mask.mode == "L"
    assert [opened.mask.getpixel(place) for place in ((1, 1), (6, 1), (6, 6))] == [255, 0, 128]


def test_opaque_alpha_is_no_mask(tmp_path: Path) -> None:
    halves("RGBA").save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").mask is None


def test_transparent_palette(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "p.png", transparency=0)
    opened = open_picture(tmp_path / "p.png")
    assert opened.image.getpixel((0, 0)) == BLUE and opened.image.getpixel((2, 2)) == WHITE
    assert opened.mask is not None and opened.mask.getpixel((0, 0)) == 255 and opened.mask.getpixel((2, 2)) == 0


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_modes_of_png(tmp_path: Path, mode: str) -> None:
    halves(mode).save(tmp_path / "m.png")
    opened = open_picture(tmp_path / "m.png")
    assert opened.image.mode == "RGB" and opened.image.size == (40, 20)


def test_cmyk(tmp_path: Path) -> None:
    halves("CMYK").save(tmp_path / "c.jpg", quality=100)
    opened = open_picture(tmp_path / "c.jpg")
    assert near(opened.image.getpixel((4, 10)), RED, 20) and near(opened.image.getpixel((36, 10)), BLUE, 20)


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 10, 32896, 65535]], dtype=np.uint16)
    raw = b"\x00" + values.astype(">u2").tobytes()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 4, 1, 16, 0, 0, 0, 0)
    path = tmp_path / "deep.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )
    assert np.asarray(open_picture(path).image)[0, :, 0].tolist() == [0, 10, 128, 255]


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".png"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, WHITE)]
    path = tmp_path / f"moving{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    assert near(open_picture(path).image.getpixel((8, 8)), RED, 16)


def test_jpeg_is_decoded_small_when_that_is_enough(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    halves(size=(1600, 800)).save(tmp_path / "large.jpg", exif=exif.tobytes())
    image = open_picture(tmp_path / "large.jpg", at_least=(150, 300)).image
    assert image.size == (200, 400)
    assert picture_size(tmp_path / "large.jpg") == (800, 1600)


def _truncated(path: Path) -> None:
    Image.effect_noise((128, 128), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif"])
def test_cut_short(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half{suffix}"
    _truncated(path)
    for look in (check_picture, open_picture):
        with pytest.raises(AtelierError, match=f"half{suffix}"):
            look(path)


def test_trailing_bytes_are_harmless(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\x00" * 500)
    assert check_picture(tmp_path / "a.jpg") == (40, 20)


def test_what_is_no_picture(tmp_path: Path) -> None:
    empty, text, folder = tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path / "folder.png"
    empty.write_bytes(b"")
    text.write_text("not a picture")
    folder.mkdir()
    with pytest.raises(AtelierError, match=r"empty\.png: the file is empty"):
        check_picture(empty)
    with pytest.raises(AtelierError, match=r"text\.jpg: this is not a picture"):
        check_picture(text)
    with pytest.raises(AtelierError, match=r"missing\.png: the picture no longer exists"):
        check_picture(tmp_path / "missing.png")
    with pytest.raises(AtelierError, match=r"folder\.png"):
        check_picture(folder)


def test_other_decoders_never_run(tmp_path: Path) -> None:
    path = tmp_path / "script.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(AtelierError, match="not a picture"):
        picture_size(path)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves(size=(100, 100)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(AtelierError, match=r"big\.png: the picture has too many pixels"):
        picture_size(tmp_path / "big.png")


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff garbage")
    assert picture_size(tmp_path / "a.jpg") == (40, 20)


def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    dice = random.Random(4)
    for suffix in (".png", ".jpg", ".webp", ".bmp", ".gif"):
        whole = tmp_path / f"whole{suffix}"
        halves().save(whole)
        original = whole.read_bytes()
        for _ in range(60):
            data = bytearray(original)
            for _ in range(dice.randint(1, 6)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            path = tmp_path / f"damaged{suffix}"
            path.write_bytes(bytes(data[: dice.randint(0, len(data))]))
            try:
                check_picture(path)
                open_picture(path)
            except AtelierError as error:
                assert "damaged" in str(error)


def test_listing(tmp_path: Path) -> None:
    for name in ("b10.png", "b2.PNG", ".hidden.png", "a.txt", "c.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.webp").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "e.png").write_bytes(b"x")
    assert [path.name for path in list_pictures(tmp_path)] == ["b2.PNG", "b10.png", "c.jpeg"]
    assert [path.name for path in list_pictures(tmp_path, recursive=True)] == ["b2.PNG", "b10.png", "c.jpeg", "d.webp"]
    with pytest.raises(AtelierError, match="no such folder"):
        list_pictures(tmp_path / "nowhere")
    with pytest.raises(AtelierError, match="this is a file"):
        list_pictures(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"8BPS\0\x01", "PSD"), (b"\xff\x0a\xfa", "JXL"),
        (b"<svg xmlns=''/>", "SVG"), (b"\n<!DOCTYPE html><html>404</html>", "HTML"),
    ],
)  # fmt: skip
def test_what_a_picture_really_is_when_its_ending_lies(tmp_path: Path, head: bytes, kind: str) -> None:
    """Phones and browsers save such files as .jpg."""
    path = tmp_path / "a.jpg"
    path.write_bytes(head + bytes(100))
    with pytest.raises(AtelierError, match=f"a.jpg: this is {kind}, which cannot be read here; save it as PNG or JPEG"):
        picture_size(path)


def test_an_avif_that_is_cut_short(tmp_path: Path) -> None:
    if not can_read_avif():
        pytest.skip("this Pillow cannot write AVIF")
    path = tmp_path / "a.avif"
    halves().save(path)
    whole = path.read_bytes()
    assert _ends_well(path), "its boxes end where the file ends, so it need not be decoded"
    for cut in (1, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:-cut])
        assert not _ends_well(path)
