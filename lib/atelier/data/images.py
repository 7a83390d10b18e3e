"""Opens pictures as upright RGB with a separate opacity mask, and reads their sizes from the headers."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from atelier.config.errors import AtelierError
from atelier.data.endings import plugin_formats, readable, recognised

_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "AVIF", "TIFF")
"""The only decoders that may run, whatever a file is called. Some of Pillow's others start external programs."""

_ORIENTATION = 0x0112
_WIDTH, _HEIGHT = 256, 257
"""TIFF 6.0, ImageWidth and ImageLength."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (Exif 2.32, tag 274) -> the transposition that makes the picture upright."""

MOST_PIXELS = 64_000_000
"""8000 x 8000. Pillow's own limit is larger, and extensions of WebUIs turn it off for the whole process."""
MOST_PIXELS_OF_JPEG = 220_000_000
"""The largest pictures that phones make. It may be higher, since a JPEG can be decoded at a fraction of its size."""

log = logging.getLogger(__name__)


@dataclass
class Opened:
    """An opened picture: `image` is RGB, upright, white where it was transparent.

    `mask` is the opacity (mode L, 255 is opaque), or None when no part is transparent.
    """

    image: Image.Image
    mask: Image.Image | None = None


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """The decoders of this Pillow. AVIF needs Pillow 11.3 or the plugin pillow_avif."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        has_avif = "AVIF" in Image.OPEN and bool(features.check("avif"))
    if not has_avif:
        try:
            import pillow_avif  # noqa: F401 - registers itself with Pillow
        except ImportError:
            log.debug("neither Pillow nor pillow_avif can read AVIF here")
    return tuple(name for name in (*_FORMATS, *plugin_formats()) if name in Image.OPEN)


def can_read_avif() -> bool:
    """True when .avif pictures can be decoded here."""
    return "AVIF" in _formats()


@contextmanager
def _opening(path: Path, data: bytes | None) -> Iterator[Image.Image]:
    """The undecoded picture. Any error of Pillow becomes an `AtelierError` that names the file."""
    try:
        with Image.open(io.BytesIO(data) if data is not None else path, formats=_formats()) as image:
            drafts = image.format in ("JPEG", "MPO")
            if image.width * image.height > (MOST_PIXELS_OF_JPEG if drafts else MOST_PIXELS):
                raise AtelierError(f"{path}: the picture has too many pixels; make it smaller first.")
            yield image
    except AtelierError:
        raise
    except FileNotFoundError as error:
        raise AtelierError(f"{path}: the picture no longer exists; put it back or remove it from the list.") from error
    except PermissionError as error:
        raise AtelierError(f"{path}: the picture may not be read; change its permissions.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise AtelierError(f"{path}: the picture has too many pixels; make it smaller first.") from error
    except UnidentifiedImageError as error:
        raise AtelierError(f"{path}: {_unknown(path, data)}") from error
    except MemoryError as error:
        raise AtelierError(f"{path}: there is not enough memory to open the picture; make it smaller.") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = str(error).strip().rstrip(".") or type(error).__name__
        sentence = f"{path}: the picture is damaged or cut short ({reason}); replace it or remove it."
        raise AtelierError(sentence) from error


def _unknown(path: Path, data: bytes | None) -> str:
    """Why no decoder can read the file."""
    try:
        head = data[:64] if data is not None else _head(path)
    except OSError:
        head = b"?"
    if not head:
        return "the file is empty; replace it or remove it."
    kind = recognised(head)
    if kind is not None:
        return f"this is {kind}, which cannot be read here; save it as PNG or JPEG, or remove it."
    if path.suffix.lower() == ".avif" and not can_read_avif():
        return "AVIF cannot be read here; install pillow-avif-plugin or convert the picture to PNG."
    return "this is not a picture that can be read (PNG, JPEG, WebP, BMP, GIF, AVIF, TIFF); replace it or remove it."


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, read from the header without decoding the picture."""
    try:
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)  # PNG's own method would decode the picture
    except Exception as error:  # noqa: BLE001 - EXIF blocks are damaged in every way there is
        log.debug("unreadable EXIF: %s", error)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def picture_size(path: Path, data: bytes | None = None) -> tuple[int, int]:
    """(width, height) of the upright picture, from its header. Raises `AtelierError` when it is no picture."""
    with _opening(path, data) as image:
        width, height = _stored_size(image)
        return (height, width) if _orientation(image) >= 5 else (width, height)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """The size before `_orientation` is applied. Newer Pillows tell that of an upright TIFF instead."""
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        if isinstance(tags.get(_WIDTH), int) and isinstance(tags.get(_HEIGHT), int):
            return tags[_WIDTH], tags[_HEIGHT]
    return image.size


def open_picture(path: Path, data: bytes | None = None, at_least: tuple[int, int] | None = None) -> Opened:
    """Decodes a picture (of an animation, the first frame). `data`: the file's bytes, when they were read already.

    `at_least` (width, height): a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as it
    stays larger than this. Raises `AtelierError` when the picture cannot be decoded to its end.
    """
    with _opening(path, data) as image:
        orientation = _orientation(image)
        if at_least is not None and image.format in ("JPEG", "MPO"):
            width, height = at_least
            image.draft(None, (height, width) if orientation >= 5 else (width, height))
        image.load()
        if image.format == "TIFF":  # newer Pillows turn it upright while loading
            orientation = _orientation(image)
        opened = _composited(image)
        if orientation in _UPRIGHT:
            opened.image = opened.image.transpose(_UPRIGHT[orientation])
            if opened.mask is not None:
                opened.mask = opened.mask.transpose(_UPRIGHT[orientation])
        return opened


def _composited(image: Image.Image) -> Opened:
    """`image` of any mode as RGB on white, and its opacity."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode.startswith("I"):
            image = _to_eight_bits(image)
        layered = image.convert("RGBA")
        alpha = layered.getchannel("A")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        flat = Image.alpha_composite(white, layered).convert("RGB")
        return Opened(flat, None if alpha.getextrema()[0] == 255 else alpha)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_eight_bits(image)
    # A copy, since the file behind `image` is closed when the caller leaves the block.
    return Opened(image.convert("RGB") if image.mode != "RGB" else image.copy())


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16 bit grey (modes I;16, and I in older Pillows) as L: 65535 becomes 255. Floats must be 0 to 1."""
    values = np.asarray(image, dtype=np.float64)
    scaled = values * 255.0 if image.mode == "F" else values / 257.0
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key that puts picture2 before picture10."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(part)) if part.isdecimal() and part.isascii() else (1, part) for part in parts]


def list_pictures(folder: Path, recursive: bool = False) -> list[Path]:
    """The pictures in `folder`, in natural order, without hidden files and folders.

    Raises `AtelierError` when the folder is missing or may not be read.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: (_natural(entry.name), entry.name))
    except FileNotFoundError as error:
        raise AtelierError(f"{folder}: there is no such folder; choose a folder with pictures.") from error
    except NotADirectoryError as error:
        raise AtelierError(f"{folder}: this is a file; choose the folder that it is in.") from error
    except OSError as error:
        raise AtelierError(f"{folder}: the folder cannot be read ({error.strerror or error}).") from error
    found: list[Path] = []
    deeper: list[Path] = []
    endings = readable()
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() in endings and entry.is_file():
            found.append(entry)
        elif recursive and entry.is_dir() and not entry.is_symlink():
            deeper.append(entry)
    for entry in deeper:
        found += list_pictures(entry, recursive=True)
    return found
