"""Writes files so that they survive a power cut: first the bytes reach the disk, then the name is changed."""

from __future__ import annotations

import os
from pathlib import Path


def put_in_place(temporary: Path, path: Path) -> None:
    """Renames `temporary`, whose bytes are already on the disk, to `path`.

    Raises `OSError`; `path` is then unchanged.
    """
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Writes the names in a folder to its disk. Windows cannot open a folder and does this by itself."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:  # a disk that has no such call
        return
    finally:
        os.close(handle)
