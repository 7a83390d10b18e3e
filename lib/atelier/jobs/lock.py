"""A lock on a record folder. The system releases it when the process ends, even after a crash."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class FolderLock:
    """Held by the process that trains in a folder, so that a second WebUI with the same runs does not touch it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._file: int | None = None

    def acquire(self) -> bool:
        """Takes the lock. False when another process, or another lock of this process, holds it.

        On a disk without locks it always succeeds.
        """
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return True
        try:
            _lock(self._file)
        except (BlockingIOError, PermissionError):
            self.release()
            return False
        except OSError:
            return True
        return True

    def release(self) -> None:
        """Releases the lock. Does nothing when it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
