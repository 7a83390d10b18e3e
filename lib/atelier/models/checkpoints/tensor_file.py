"""Reads files of tensors one tensor at a time, so that only that tensor is in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from atelier.config.errors import AtelierError
from atelier.config.imports.tensor_header import is_entry

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
for _name, _attribute in (("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2", "float8_e5m2")):
    if hasattr(torch, _attribute):
        DTYPES[_name] = getattr(torch, _attribute)

_LARGEST_HEADER = 100 << 20


class TensorFile(Protocol):
    """A file of named tensors."""

    path: Path

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def dtype(self, name: str) -> torch.dtype:
        """The precision of a tensor in the file."""
        ...

    def read(self, name: str) -> Tensor:
        """A tensor in its own memory, in the file's precision. Raises `AtelierError` if the file is damaged."""
        ...

    def close(self) -> None: ...


class SafetensorsFile:
    """A .safetensors file: the length in 8 bytes, a JSON header, then the tensors' bytes.

    It is not mapped into memory. So when the file is replaced or truncated while it is open, tensors that were read
    stay intact. Raises `AtelierError` when it is not a complete .safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise AtelierError(f"{path} cannot be read: {error.strerror or error}.") from error
        try:
            header = self._header(path.stat().st_size)
        except BaseException:
            self._file.close()
            raise
        self._entries, self._start = header[0], header[2]
        self.metadata: Mapping[str, str] = header[1]
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(entry["shape"]) for name, entry in self._entries.items()
        }

    def _header(self, size: int) -> tuple[dict[str, Any], dict[str, str], int]:
        length = int.from_bytes(self._file.read(8), "little")
        if not 2 <= length <= min(_LARGEST_HEADER, size):
            raise AtelierError(f"{self.path.name} is not a .safetensors file, or its header is damaged.")
        try:
            entries = json.loads(self._file.read(length))
            given = entries.pop("__metadata__", None) or {}
            metadata = {str(key): str(value) for key, value in given.items()}
            if not all(is_entry(entry) for entry in entries.values()):
                raise ValueError("an entry without a shape or offsets")
            end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AtelierError(f"{self.path.name} is not a .safetensors file, or its header is damaged.") from error
        whole = 8 + length + end
        if size < whole:
            raise AtelierError(
                f"{self.path.name} is incomplete: it has {size:,} of {whole:,} bytes. Download or copy it again."
            )
        return entries, metadata, 8 + length

    def dtype(self, name: str) -> torch.dtype:
        kind = self._entries[name]["dtype"]
        if kind not in DTYPES:
            raise AtelierError(f"{self.path.name}: {name} has the type {kind}, which cannot be read.")
        return DTYPES[kind]

    def read(self, name: str) -> Tensor:
        entry = self._entries[name]
        dtype = self.dtype(name)
        begin, end = entry["data_offsets"]
        if end < begin:
            raise AtelierError(f"{self.path.name} is damaged: {name} ends before it begins.")
        raw = torch.empty(end - begin, dtype=torch.uint8)
        if end > begin:
            self._file.seek(self._start + begin)
            if self._file.readinto(memoryview(raw.numpy())) != end - begin:  # type: ignore[attr-defined]
                raise AtelierError(f"{self.path.name} was truncated while it was read. Copy it again.")
        try:
            return raw.view(dtype).reshape(entry["shape"])
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise AtelierError(f"{self.path.name} is damaged: the bytes of {name} do not fit its shape.") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
