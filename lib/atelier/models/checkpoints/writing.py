"""Writes files of tensors, one tensor at a time, under a temporary name first so that no old file is damaged."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from atelier.config.errors import AtelierError
from atelier.config.files.durable import put_in_place
from atelier.models.checkpoints.tensor_file import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_SPARE = 16 << 20
"""Bytes that must stay free on the disk, since a full disk would stop the WebUI too."""


@dataclass(frozen=True)
class Entry:
    """A tensor to write. `make` returns it when it is written, in any precision; then it is cast to `dtype`."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes."""
        count = 1
        for side in self.shape:
            count *= side
        return count * torch.empty(0, dtype=self.dtype).element_size()

    def tensor(self) -> Tensor:
        """The tensor, contiguous, on the CPU, in memory of no more than its own size."""
        made = self.make().detach().to(device="cpu", dtype=self.dtype).reshape(self.shape).contiguous()
        whole = made.untyped_storage().nbytes() == made.numel() * made.element_size()
        return made if whole else made.clone()


def entry(name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> Entry:
    """An entry for a tensor. `dtype` applies to floating-point tensors only."""
    kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return Entry(name, tuple(tensor.shape), kind, lambda: tensor)


def check_space(path: Path, size: int) -> None:
    """Raises `AtelierError` when the disk of `path` has less than `size` bytes free."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise AtelierError(
            f"{path.name} needs {size / 1e6:,.0f} MB, but {folder} has {free / 1e6:,.0f} MB free. "
            "Nothing was written. Free some space and save again."
        )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`. After the block it is renamed to `path`; after an error it is removed.

    A full disk becomes an `AtelierError`; the old file at `path` is then unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:  # Windows syncs only files that are open for writing
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101
        put_in_place(temporary, path)
    except OSError as error:
        raise _not_written(path, error) from error
    except RuntimeError as error:
        # torch.save reports a full disk as an error of its archive.
        raise AtelierError(
            f"{path.name} could not be written, most likely because the disk is full ({error}). "
            "Files saved before are unchanged."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_safetensors(path: Path, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Writes a .safetensors file atomically, with one tensor in memory at a time. Raises `AtelierError`."""
    check_space(path, sum(item.size for item in entries))
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_tensors(file, entries, metadata)


def write_tensors(file: BinaryIO, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Writes tensors to an open file in the safetensors format, one in memory at a time. Raises `OSError`."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    # Largest elements first, as in safetensors' own writer, so that every tensor is aligned to its element size.
    ordered = sorted(entries, key=lambda item: (-torch.empty(0, dtype=item.dtype).element_size(), item.name))
    offset = 0
    for item in ordered:
        header[item.name] = {
            "dtype": _NAMES[item.dtype],
            "shape": list(item.shape),
            "data_offsets": [offset, offset + item.size],
        }
        offset += item.size
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for item in ordered:
        if item.size:
            file.write(memoryview(item.tensor().reshape(-1).view(torch.uint8).numpy()))
    file.flush()
    os.fsync(file.fileno())


def write_pickle(path: Path, entries: Sequence[Entry]) -> None:
    """Writes a .ckpt, {"state_dict": tensors} of `torch.save`, atomically. Raises `AtelierError`."""
    check_space(path, sum(item.size for item in entries))
    with replacing(path) as temporary:
        torch.save({"state_dict": {item.name: item.tensor() for item in entries}}, str(temporary))


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _not_written(path: Path, error: OSError) -> AtelierError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AtelierError(f"The disk is full: {path.name} could not be written. Files saved before are unchanged.")
    reason = error.strerror or str(error)
    return AtelierError(f"{path} could not be written: {reason}. Files saved before are unchanged.")
