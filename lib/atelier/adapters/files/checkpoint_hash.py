"""The two hashes by which WebUIs and kohya's metadata name a checkpoint."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from atelier.adapters.files.kohya_file import HASH_SIZE, HASH_START

_known: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()


def model_hashes(path: str | Path | None, whole: bool = True) -> tuple[str | None, str | None]:
    """(ss_sd_model_hash, ss_new_sd_model_hash) of a checkpoint file; None without a file.

    The first hash reads 64 KiB. The second reads the whole file, which takes seconds for 2 GB. It is remembered by
    path, size and time of change. With `whole` False it is None unless it is known already.
    """
    if path is None or not Path(path).is_file():
        return None, None
    path = Path(path)
    with path.open("rb") as file:
        file.seek(HASH_START)
        short = hashlib.sha256(file.read(HASH_SIZE)).hexdigest()[:8]
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    with _lock:
        full = _known.get(key)
    if full is None and whole:
        full = _sha256(path)
        with _lock:
            _known[key] = full
    return short, full


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()
