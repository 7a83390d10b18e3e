"""Files: replaced as a whole, grown line by line, measured, removed. And makes JSON from any value."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atelier.config.files.durable import sync_folder


def plain(value: Any) -> Any:
    """`value` for JSON: NaN and infinity become None, lone surrogates "?", unknown types their text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return plain(str(value))


def write_bytes(path: Path, content: bytes, durable: bool = False) -> None:
    """Writes a whole file or leaves the old one. `durable`: it also survives a power cut. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    finally:
        _remove(temporary)


def append_text(path: Path, text: str, most: int) -> None:
    """Adds to the end of a text file. Beyond `most` bytes only its newer half is kept. Raises OSError."""
    if path.is_file() and path.stat().st_size > most:
        write_bytes(path, path.read_bytes()[-most // 2 :])
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(text)


def write_json(path: Path, value: Any, durable: bool = False) -> None:
    """Writes `value` as a JSON file, whole or not at all. Raises OSError."""
    write_bytes(path, (json.dumps(plain(value), indent=1) + "\n").encode("ascii"), durable)


def read_json(path: Path, default: Any) -> Any:
    """The content of a JSON file; `default` when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return default


def read_lines(path: Path) -> list[Any]:
    """The rows of a JSON lines file. A row that a crash cut off is ignored."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return rows


class LineFile:
    """A JSON lines file that grows. While the disk is full, rows wait in memory and are written when there is room."""

    KEPT = 20_000
    """Most rows that wait; older rows are dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] = []
        self._begin_anew = True

    @property
    def complete(self) -> bool:
        """True when every row is on the disk."""
        return not self._waiting

    def append(self, rows: Sequence[Any]) -> None:
        """Adds rows at the end. Raises OSError; the rows are then written with the next ones."""
        self._waiting.extend(json.dumps(plain(row)) + "\n" for row in rows)
        del self._waiting[: -self.KEPT]
        if not self._waiting:
            return
        text = "".join(self._waiting)
        if self._begin_anew and self._ends_within_a_line():
            text = "\n" + text
        self._begin_anew = True
        with self._path.open("ab") as file:
            file.write(text.encode("ascii"))
        self._begin_anew = False
        self._waiting.clear()

    def _ends_within_a_line(self) -> bool:
        """True when the file ends within a line, after a crash or on a full disk."""
        try:
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # missing or empty
            return False


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # a read-only folder has no file to remove
        return


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count for nothing. What cannot be read counts as 0."""
    total, waiting = 0, [path]
    while waiting:
        here = waiting.pop()
        try:
            if here.is_symlink():
                continue
            if not here.is_dir():
                total += here.stat().st_size
                continue
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif not entry.is_symlink():
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def remove_whole(folder: Path) -> None:
    """Removes a folder. It is renamed first, so that nobody finds half of it. Raises `OSError`."""
    aside = folder
    if not folder.name.endswith(".gone"):
        aside = folder.with_name(f".{folder.name.lstrip('.')}.gone")
        if aside.exists():  # left by an earlier attempt
            shutil.rmtree(aside)
        folder.rename(aside)
    shutil.rmtree(aside)
