"""Thumbnails as data URLs inside the page's HTML, so that no route has to serve files of the user's folders."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from atelier.config.errors import AtelierError
from atelier.data.images import open_picture

SIDE = 144


def thumbnail(path: Path) -> str | None:
    """The picture as a data URL of a JPEG of at most 144 pixels per side; None when it cannot be decoded."""
    try:
        state = path.stat()
    except OSError:
        return None
    return _thumbnail(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=512)
def _thumbnail(path: Path, changed: int, size: int) -> str | None:
    try:
        image = open_picture(path, at_least=(SIDE, SIDE)).image
    except AtelierError:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    image.save(held, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode("ascii")
