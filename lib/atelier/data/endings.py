"""Which files are pictures by their ending: those that are read here, and those that are known but not read."""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from atelier.config.errors import few

EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".avif", ".tif", ".tiff",
)  # fmt: skip
"""Endings of picture files that are read everywhere, in lower case."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plugin:
    """A package that teaches Pillow a format. `register`: its function for that; "" when importing it is enough."""

    module: str
    package: str
    format: str
    endings: tuple[str, ...]
    register: str = ""


PLUGINS = (
    Plugin("pillow_heif", "pillow-heif", "HEIF", (".heic", ".heif", ".hif"), "register_heif_opener"),
    Plugin("pillow_jxl", "pillow-jxl-plugin", "JXL", (".jxl",)),
)
"""Plugins that are used where somebody has installed them."""

OTHERS = frozenset((
    ".psd", ".psb", ".xcf", ".kra", ".clip", ".procreate", ".ora", ".afphoto", ".ai", ".eps", ".svg", ".svgz", ".tga",
    ".dds", ".exr", ".hdr", ".ico", ".icns", ".jp2", ".j2k", ".jpx", ".jxr", ".qoi", ".pcx", ".ppm", ".pgm", ".pbm",
    ".pnm", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw",
))  # fmt: skip
"""Endings of pictures that are never read: layered files, drawings, raw files of cameras."""


@lru_cache(maxsize=1)
def plugin_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that installed plugins add."""
    found = []
    for plugin in PLUGINS:
        try:
            module = importlib.import_module(plugin.module)
            if plugin.register and plugin.format not in Image.OPEN:
                getattr(module, plugin.register)()
        except (ImportError, AttributeError, OSError) as error:
            log.debug("%s cannot be used: %s", plugin.package, error)
        if plugin.format in Image.OPEN:
            found.append(plugin.format)
    return tuple(found)


def readable() -> tuple[str, ...]:
    """The endings of pictures that can be read here, in lower case."""
    formats = plugin_formats()
    return EXTENSIONS + tuple(ending for plugin in PLUGINS if plugin.format in formats for ending in plugin.endings)


_HEADS = (
    (b"8BPS", "PSD"), (b"\xff\x0a", "JXL"), (b"\0\0\0\x0cJXL ", "JXL"), (b"<svg", "SVG"), (b"<?xml", "SVG"),
    (b"<!DOCTYPE", "HTML"), (b"<!doctype", "HTML"), (b"<html", "HTML"), (b"gimp xcf", "XCF"), (b"%PDF", "PDF"),
)  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def recognised(head: bytes) -> str | None:
    """The format of a file that is not read here, by its first bytes and whatever it is called; None if unknown."""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "HEIC"
    return next((name for begin, name in _HEADS if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(begin)), None)


def unread_endings() -> frozenset[str]:
    """The endings of pictures that cannot be read here."""
    return OTHERS.union(*(plugin.endings for plugin in PLUGINS)) - set(readable())


def unread(folder: Path) -> Counter[str]:
    """How many pictures of each ending in `folder` cannot be read here. Empty when the folder cannot be listed."""
    known = unread_endings()
    try:
        files = [entry for entry in folder.iterdir() if entry.suffix.lower() in known and entry.name[0] != "."]
        return Counter(entry.suffix.lower() for entry in files if entry.is_file())
    except OSError:
        return Counter()


def unread_sentence(counts: Counter[str], folders: Iterable[Path]) -> str:
    """One sentence about all pictures that cannot be read: how many, with which endings, where, and what to do."""
    count = sum(counts.values())
    listed = ", ".join(f"{number} {ending}" for ending, number in sorted(counts.items()))
    where = few(folders)
    packages = [plugin.package for plugin in PLUGINS if any(ending in counts for ending in plugin.endings)]
    instead = f", or install {_either(packages)} for the WebUI's Python" if packages else ""
    what = "picture cannot be read here and is" if count == 1 else "pictures cannot be read here and are"
    them = "it" if count == 1 else "them"
    return f"{where}: {count} {what} left out ({listed}). Save {them} as PNG or JPEG{instead}."


def _either(words: Sequence[str]) -> str:
    return " and ".join(words)
