"""Paths as people and files write them: one that no file can have is a path to nothing, not an error."""

from __future__ import annotations

from pathlib import Path


def expanded(text: str | Path) -> Path:
    """The path with ~ replaced, or as it is written where nobody of that name has a folder here."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def exists(text: str | Path) -> bool:
    """True for a file or a folder."""
    try:
        return expanded(text).exists()
    except (OSError, ValueError):  # too long for a name, no right to look, or a zero byte in it
        return False


def is_folder(text: str | Path) -> bool:
    return exists(text) and expanded(text).is_dir()


def is_file(text: str | Path) -> bool:
    return exists(text) and expanded(text).is_file()
