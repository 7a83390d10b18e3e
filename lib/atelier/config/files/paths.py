"""Paths as people and files write them. A path that no file can have leads to nothing instead of raising an error."""

from __future__ import annotations

from pathlib import Path


def expanded(text: str | Path) -> Path:
    """The path with ~ or ~name replaced, or as it is written when there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def exists(text: str | Path) -> bool:
    """True for a file or a folder."""
    try:
        return expanded(text).exists()
    except (OSError, ValueError):  # the name is too long, there is no permission, or there is a zero byte in it
        return False


def is_folder(text: str | Path) -> bool:
    return exists(text) and expanded(text).is_dir()


def is_file(text: str | Path) -> bool:
    return exists(text) and expanded(text).is_file()
