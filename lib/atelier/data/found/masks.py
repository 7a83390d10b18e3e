"""Mask pictures that leave nothing to be learned."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from atelier.config.errors import AtelierError
from atelier.data.images import open_picture


def is_black(mask: Path) -> bool:
    """True for a mask picture of which nothing is learned: its red channel is 0.

    False for one that cannot be read, which is told when it is used.
    """
    try:
        about = mask.stat()
    except OSError:
        return False
    return _is_black(mask, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=10_000)
def _is_black(mask: Path, changed: int, size: int) -> bool:
    """As of one state of the file, since a page asks again after every change of a setting."""
    try:
        brightest = open_picture(mask).image.getchannel("R").getextrema()[1]
    except AtelierError:
        return False
    return brightest == 0
