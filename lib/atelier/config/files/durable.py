"""Files that outlast a power cut: their bytes, and then their name, are on the disk before anything relies on them."""

from __future__ import annotations

import os
from pathlib import Path


def put_in_place(temporary: Path, path: Path) -> None:
    """Renames a file whose bytes are on the disk already. Raises `OSError`; `path` is then as it was."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Has the names in a folder written to its disk. Windows, where no folder can be opened, does it alone."""
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
