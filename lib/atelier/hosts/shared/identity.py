"""What tells the weights of one checkpoint from another's."""

from __future__ import annotations

from pathlib import Path


def file_identity(path: Path) -> str:
    """Where the file is and when it was written: something else for another file, and for one written anew."""
    return f"{path}:{path.stat().st_mtime_ns if path.exists() else 0}"
