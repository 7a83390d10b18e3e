"""Files dropped on the page become a picture folder of their own."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier.config.errors import AtelierError
from atelier.config.names import name_problem
from atelier.data.images import EXTENSIONS
from atelier.jobs.housekeeping import touch
from atelier.ui.gradio_compat import DroppedFile

PICTURES = frozenset(EXTENSIONS)
CAPTIONS = frozenset((".txt", ".caption"))
MOST_FILES = 4000
LARGEST_FILE = 200 * 2**20
LARGEST_TOTAL = 8 * 2**30
LONGEST_NAME = 120
"""Bytes."""
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


@dataclass(frozen=True)
class Uploaded:
    """The folder that holds the dropped files, and a sentence for each file that was left out."""

    folder: Path
    left_out: list[str]


def keep_files(files: Sequence[DroppedFile], pictures_folder: Path) -> Uploaded:
    """Copies dropped pictures and captions into a folder under `pictures_folder`, named after what is in it.

    The same files dropped again give the same folder. Raises `AtelierError` when there is no picture among them,
    or too many files or bytes.
    """
    if len(files) > MOST_FILES:
        raise AtelierError(f"{len(files)} files were dropped; at most {MOST_FILES} can be. Give a folder instead.")
    wanted: list[tuple[DroppedFile, str]] = []
    left_out: list[str] = []
    total = 0
    for file in files:
        name = _safe_name(file.name)
        suffix = Path(name).suffix.lower()
        size = file.path.stat().st_size if file.path.is_file() else 0
        if suffix not in PICTURES | CAPTIONS:
            left_out.append(f"{file.name} is neither a picture nor a caption file; it is left out.")
        elif size > LARGEST_FILE:
            left_out.append(f"{file.name} is larger than {LARGEST_FILE // 2**20} MB; it is left out.")
        elif not file.path.is_file():
            left_out.append(f"{file.name} did not arrive; drop it again.")
        else:
            wanted.append((file, name))
            total += size
    if total > LARGEST_TOTAL:
        raise AtelierError(f"The dropped files have {total / 2**30:.1f} GB; at most {LARGEST_TOTAL >> 30} can be.")
    if not any(Path(name).suffix.lower() in PICTURES for _, name in wanted):
        raise AtelierError("There is no picture among the dropped files. Drop .png, .jpg, .webp, .bmp or .avif files.")
    folder = pictures_folder / _digest(wanted)
    if not folder.is_dir():
        _copy(wanted, folder)
    touch(folder)
    return Uploaded(folder, left_out)


def _copy(files: Sequence[tuple[DroppedFile, str]], folder: Path) -> None:
    """Fills a folder beside the place and moves it there, so that a half-filled one is never taken for whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own for each call: several events of a page copy the same files at the same time.
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        taken: set[str] = set()
        for file, name in files:
            shutil.copyfile(file.path, half / _free(name, taken))
        half.rename(folder)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        if not folder.is_dir():  # else somebody was quicker with the same files
            reason = error.strerror or error
            raise AtelierError(f"The dropped files cannot be kept in {folder.parent}: {reason}.") from error


def _free(name: str, taken: set[str]) -> str:
    """`name`, or name-2 … when a file of that name came before (from another folder, or in other case)."""
    stem, suffix = Path(name).stem, Path(name).suffix
    number, candidate = 1, name
    while candidate.lower() in taken:
        number += 1
        candidate = f"{stem}-{number}{suffix}"
    taken.add(candidate.lower())
    return candidate


def _safe_name(name: str) -> str:
    """A name that a file can have on every system, with its ending."""
    cleaned = _UNSAFE.sub("_", name.encode("utf-8", "replace").decode()).strip(" .")
    cleaned = cleaned.encode()[-LONGEST_NAME:].decode("utf-8", "ignore").strip(" .") or "picture"
    return f"_{cleaned}" if name_problem(Path(cleaned).stem) else cleaned


def _digest(files: Sequence[tuple[DroppedFile, str]]) -> str:
    digest = hashlib.sha256()
    for file, name in sorted(files, key=lambda item: (item[1], str(item[0].path))):
        digest.update(name.encode() + b"\0")
        with file.path.open("rb") as handle:
            while piece := handle.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:16]
