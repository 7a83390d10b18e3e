"""A cache of tensors, in memory and on disk, so that every picture and every caption is encoded only once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from atelier.data.batch import ONCE

MEMORY_LIMIT = 2 * 1024**3
"""Bytes kept in memory when there is a disk to read the others from."""

log = logging.getLogger(__name__)


class TensorCache:
    """Tensors by key, for one VAE or text encoder. May be used from several threads and processes at once.

    `folder`: where files are kept between runs, or None for memory only. `identity`: a text that differs for different
    encoders; tensors of another encoder are never found. `what`: the name of the tensors, for a sentence. Nothing here
    raises for a full, missing or read-only disk: the cache then works in memory, and `disk_problem` says why.
    """

    def __init__(
        self, folder: Path | None, identity: str, memory_limit: int = MEMORY_LIMIT, what: str = "Latents"
    ) -> None:
        self.folder = folder
        self.disk_problem: str | None = None
        self._identity = identity
        self._what = what
        self._limit = memory_limit
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Tensor | None:
        """The tensor under `key` ([C, h, w] for latents, on the CPU), or None. The caller must not change it.

        A damaged file is removed, and the next `put` writes it again.
        """
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return held
        tensor = self._read(key)
        if tensor is not None:
            self._hold(key, tensor)
        return tensor

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def put(self, key: str, tensor: Tensor) -> None:
        """Keeps `tensor` under `key`. Latents of pixels that never come again (`ONCE`) are not kept."""
        if key.startswith(ONCE):
            return
        tensor = tensor.detach().to("cpu", copy=True).contiguous()
        self._hold(key, tensor)
        if self.folder is not None:
            self._write(key, tensor)

    def path(self, key: str) -> Path | None:
        """The file that holds `key`, when there is a folder."""
        if self.folder is None:
            return None
        name = hashlib.sha256(f"{self._identity}/{key}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def _hold(self, key: str, tensor: Tensor) -> None:
        with self._lock:
            old = self._held.pop(key, None)
            self._bytes += _size(tensor) - (0 if old is None else _size(old))
            self._held[key] = tensor
            # Without a disk no tensor is dropped, nor one that could not be written.
            while self.folder is not None and self.disk_problem is None and self._bytes > self._limit:
                if len(self._held) == 1:
                    break
                self._bytes -= _size(self._held.popitem(last=False)[1])

    def _read(self, key: str) -> Tensor | None:
        path = self.path(key)
        if path is None:
            return None
        try:
            data = path.read_bytes()
            with contextlib.suppress(OSError):
                os.utime(path)  # the clean-up removes the files that were unused for longest
            # A copy: the address of a tensor in memory can change the last bits of results computed with it.
            return load(data)["tensor"].clone()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)
            return None
        except (SafetensorError, KeyError, ValueError) as error:
            log.warning("%s cannot be used and is made again: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def _write(self, key: str, tensor: Tensor) -> None:
        """Writes a temporary file and renames it, so that a reader sees the whole file or none."""
        path = self.path(key)
        if path is None:
            return
        aside: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(save({"tensor": tensor}))
            Path(aside).replace(path)
        except OSError as error:
            if self.disk_problem is None:
                reason = error.strerror or error
                self.disk_problem = (
                    f"{self._what} cannot be written to {self.folder} ({reason}). They stay in memory only."
                )
                log.warning(self.disk_problem)
            if aside is not None:
                with contextlib.suppress(OSError):
                    Path(aside).unlink()


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
