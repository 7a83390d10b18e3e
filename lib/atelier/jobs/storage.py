"""How much room runs and caches take on the disk, and what a person can remove to get it back."""

from __future__ import annotations

from pathlib import Path

from atelier.config.errors import AtelierError
from atelier.jobs.files import remove_whole, size_of
from atelier.jobs.housekeeping import LATENTS, TEXT

CACHES = {"latents": LATENTS, "text": TEXT, "class_pictures": "class_pictures"}
"""Folders below the cache folder, by the name of what is in them. All of it is made again when it is needed."""


def cache_sizes(cache: Path) -> dict[str, int]:
    """Bytes of each cache below the folder `cache`, by name."""
    return {name: size_of(cache / folder) for name, folder in CACHES.items()}


def clear_cache(cache: Path, name: str) -> int:
    """Removes what is in a cache. Returns the bytes that became free.

    Raises `AtelierError` for a name that is not in `CACHES`, and when something cannot be removed.
    """
    if name not in CACHES:
        raise AtelierError(f"There is no cache {name!r}. There are {', '.join(CACHES)}.")
    folder = cache / CACHES[name]
    before = size_of(folder)
    remove_folder(folder)
    return before - size_of(folder)


def remove_folder(folder: Path) -> None:
    """Removes a folder, if it is there.

    Raises `AtelierError` when the system refuses.
    """
    if not folder.exists():
        return
    try:
        remove_whole(folder)
    except OSError as error:
        reason = error.strerror or error
        raise AtelierError(f"{folder} cannot be removed ({reason}). Close programs that use it.") from error
