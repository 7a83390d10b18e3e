"""Cleans up dropped pictures and caches beyond a limit; what was unused for longest is removed first."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from atelier.jobs.files import remove_whole, size_of

log = logging.getLogger(__name__)

UPLOADS = "uploads"
"""Folder below the runs folder for pictures that were dropped on the page, with a folder for each set."""
LATENTS = "latents"
"""Folder below the cache folder for cached latents."""
OWN = "atelier"
"""The folder for all that is ours in a WebUI's own folder."""
TEXT = "text"
"""Folder below the cache folder for cached prompt embeddings."""
GB = 1 << 30
DAY = 24 * 3600.0


def limit_of(name: str, default: float) -> float:
    """The number in an environment variable; `default` when there is none, or one that makes no sense."""
    try:
        value = float(os.environ.get(name, ""))
    except ValueError:
        return default
    return value if value >= 0 else default


def upload_days() -> float:
    """Days after which unused dropped pictures are removed: ATELIER_UPLOAD_DAYS, else 30."""
    return limit_of("ATELIER_UPLOAD_DAYS", 30.0)


def upload_bytes() -> float:
    """Limit for all dropped pictures together, in bytes: ATELIER_UPLOAD_GB, else 20 GB."""
    return limit_of("ATELIER_UPLOAD_GB", 20.0) * GB


def latent_bytes() -> float:
    """Limit for all cached latents together, in bytes: ATELIER_LATENTS_GB, else 10 GB."""
    return limit_of("ATELIER_LATENTS_GB", 10.0) * GB


def text_bytes() -> float:
    """Limit for all cached prompt embeddings together, in bytes: ATELIER_TEXT_GB, else 2 GB."""
    return limit_of("ATELIER_TEXT_GB", 2.0) * GB


def tidy(runs: Path, cache: Path, in_use: Collection[str]) -> None:
    """Removes files beyond the limits. `in_use` are picture folders of open or resumable runs, which are kept.

    Nothing is raised: a file that cannot be removed stays, and the log says so.
    """
    needed = {_resolved(folder) for folder in in_use if folder}
    uploads = [path for path in _entries(runs / UPLOADS) if path.is_dir() and _resolved(path) not in needed]
    held = sum(size_of(folder) for folder in needed if folder.parent == _resolved(runs / UPLOADS))
    prune(uploads, upload_bytes() - held, upload_days(), remove_whole)
    for name, most in ((LATENTS, latent_bytes()), (TEXT, text_bytes())):
        cached = [path for folder in _entries(cache / name) for path in _entries(folder)]
        prune(cached, most, float("inf"), lambda path: path.unlink(missing_ok=True))


def touch(path: Path) -> None:
    """Sets the time of a file or folder to now. Where that fails, it counts as old."""
    try:
        os.utime(path)
    except OSError as error:
        log.debug("%s cannot be marked as used: %s", path, error)


def prune(paths: Iterable[Path], most: float, days: float, remove: Callable[[Path], None]) -> list[Path]:
    """Removes paths unused for `days`, then those unused for longest until `most` bytes are left.

    Returns the removed paths.
    """
    known = sorted(((_used(path), size_of(path), path) for path in paths), key=lambda item: (item[0], str(item[2])))
    total, oldest, gone = sum(size for _, size, _ in known), time.time() - days * DAY, []
    for used, size, path in known:
        if used >= oldest and total <= most:
            break
        try:
            remove(path)
        except OSError as error:
            log.warning("%s could not be removed: %s", path, error)
            continue
        total -= size
        gone.append(path)
    return gone


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.is_symlink()]
    except OSError:
        return []


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _resolved(path: str | Path) -> Path:
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        return Path(path)


def ignore_in_git(runs: Path, cache: Path) -> None:
    """Lets the WebUI's own git pass over Atelier's folder, if runs and cache share one that is ours alone."""
    folder = runs.parent
    if folder != cache.parent or folder.name != OWN or not folder.is_dir() or (folder / ".gitignore").exists():
        return
    try:
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        log.debug("%s could not be left out of git: %s", folder, error)
