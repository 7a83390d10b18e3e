"""The identity of a checkpoint's weights."""

from __future__ import annotations

from pathlib import Path


def file_identity(path: Path) -> str:
    """A text from the file's path and time of change, which differs for another or a rewritten file."""
    return f"{path}:{path.stat().st_mtime_ns if path.exists() else 0}"
