"""Copies files that were dropped on the page into a folder of pictures."""

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
from atelier.data.endings import readable, unread_endings
from atelier.jobs.housekeeping import touch
from atelier.ui.gradio_compat import DroppedFile

CAPTIONS = frozenset((".txt", ".caption"))
MOST_FILES = 4000
LARGEST_FILE = 200 * 2**20
LARGEST_TOTAL = 8 * 2**30
LONGEST_NAME = 120
"""Bytes."""
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


@dataclass(frozen=True)
class Uploaded:
    """The folder with the dropped files, and a sentence for each file that was not used."""

    folder: Path
    left_out: list[str]


def keep_files(files: Sequence[DroppedFile], pictures_folder: Path) -> Uploaded:
    """Copies dropped pictures and captions into a folder under `pictures_folder`, named after a hash of the files.

    The same files dropped again give the same folder. Raises `AtelierError` when there is no picture among them,
    or too many files or bytes.
    """
    if len(files) > MOST_FILES:
        raise AtelierError(f"{len(files)} files were dropped; the limit is {MOST_FILES}. Name a folder instead.")
    pictures = frozenset(readable())
    wanted: list[tuple[DroppedFile, str]] = []
    left_out: list[str] = []
    total = 0
    for file in files:
        name = _safe_name(file.name)
        suffix = Path(name).suffix.lower()
        size = file.path.stat().st_size if file.path.is_file() else 0
        if suffix in unread_endings():
            left_out.append(f"{file.name} cannot be read here. Save it as PNG or JPEG, and drop that.")
        elif suffix not in pictures | CAPTIONS:
            left_out.append(f"{file.name} is neither a picture nor a caption file. It is not used.")
        elif size > LARGEST_FILE:
            left_out.append(f"{file.name} is larger than {LARGEST_FILE // 2**20} MB. It is not used.")
        elif not file.path.is_file():
            left_out.append(f"{file.name} was not uploaded. Drop it again.")
        else:
            wanted.append((file, name))
            total += size
    if total > LARGEST_TOTAL:
        raise AtelierError(f"The dropped files have {total / 2**30:.1f} GB; the limit is {LARGEST_TOTAL >> 30} GB.")
    if not any(Path(name).suffix.lower() in pictures for _, name in wanted):
        raise AtelierError("There is no picture among the dropped files. Drop .png, .jpg, .webp, .bmp or .avif files.")
    folder = pictures_folder / _digest(wanted)
    if not folder.is_dir():
        _copy(wanted, folder)
    touch(folder)
    return Uploaded(folder, left_out)


def _copy(files: Sequence[tuple[DroppedFile, str]], folder: Path) -> None:
    """Copies into a temporary folder and then renames it, so that nobody sees a half-filled folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Each call has its own temporary folder, since several events of a page may copy the same files at once.
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        taken: set[str] = set()
        for file, name in files:
            shutil.copyfile(file.path, half / _free(name, taken))
        half.rename(folder)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        if not folder.is_dir():  # else another event was faster with the same files
            reason = error.strerror or error
            raise AtelierError(f"The dropped files cannot be written to {folder.parent}: {reason}.") from error


def _free(name: str, taken: set[str]) -> str:
    """`name`, or name-2 … when there was a file of that name before, from another folder or in another case."""
    stem, suffix = Path(name).stem, Path(name).suffix
    number, candidate = 1, name
    while candidate.lower() in taken:
        number += 1
        candidate = f"{stem}-{number}{suffix}"
    taken.add(candidate.lower())
    return candidate


def _safe_name(name: str) -> str:
    """A file name, with its ending, that is allowed on every system."""
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
