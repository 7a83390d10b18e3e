"""Reads small files as a whole: regular files only, and only up to a size that fits their purpose."""

from __future__ import annotations

from pathlib import Path

from atelier.config.errors import AtelierError
from atelier.config.files.paths import is_folder

SETTINGS = 8_000_000
"""Largest file of settings, in bytes."""
CAPTIONS = 256_000_000
"""Largest file of captions, in bytes: enough for some hundred thousand pictures."""


def read_whole(path: Path, most: int = SETTINGS, what: str = "a file of settings") -> bytes:
    """The bytes of a file. Raises `AtelierError` when it is no file, larger than `most` bytes, or cannot be read.

    Pipes and devices are refused, since they may never end.
    """
    if is_folder(path):
        raise AtelierError(f"{path} is a folder; give a file.")
    try:
        if path.exists() and not path.is_file():
            raise AtelierError(f"{path} is a pipe or a device; give a file.")
        if path.stat().st_size > most:
            raise AtelierError(f"{path.name} is too large to be {what}.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise AtelierError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
