"""Keys of cached latents, made from all they depend on: a changed picture or setting never finds old latents."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from atelier.data.buckets import Size

_Stamp = tuple[str, int, int, int, int]


def content_key(data: bytes) -> str:
    """sha256 of a file's bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


class Fingerprints:
    """Content keys of files, remembered as long as a file's stamp (size, times, inode) stays the same.

    They are remembered only as long as this object lives, since a stamp is no proof between two processes.
    """

    def __init__(self) -> None:
        self._keys: dict[_Stamp, str] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> str:
        """The content key of the file. Raises OSError when it cannot be read."""
        stamp = self._stamp(path)
        with self._lock:
            known = self._keys.get(stamp)
        if known is not None:
            return known
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        key = digest.hexdigest()
        if self._stamp(path) == stamp:  # else the file was written while it was read
            with self._lock:
                self._keys[stamp] = key
        return key

    @staticmethod
    def _stamp(path: Path) -> _Stamp:
        state = path.stat()
        return str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def latents_key(content: str, bucket: Size, resized: Size, interpolation: str | None, flipped: bool) -> str:
    """The key of a picture's latents: its content, and every step between its file and the VAE.

    The VAE's identity is part of the cache (`TensorCache`).
    """
    return _key("latents-1", content, bucket, resized, interpolation or "", flipped)


def mask_key(content: str, mask_content: str, bucket: Size, resized: Size, flipped: bool) -> str:
    """The key of a picture's mask; `mask_content` is "alpha" or the content key of its mask picture."""
    return _key("mask-1", content, mask_content, bucket, resized, flipped)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
