"""Reads PyTorch checkpoints (.ckpt, .pt, .bin) without running any code in them.

A pickle names functions to call. Here these names are looked up in a short table of our own (tensors, ordered
dictionaries) and never imported. Objects of known training libraries become inert placeholders. A file with any other
name is refused. `torch.load` is not used: WebUIs replace it, and before torch 2.6 it can be made to run code even with
`weights_only` (CVE-2025-32434).
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from torch import Tensor

from atelier.config.errors import AtelierError
from atelier.models.checkpoints.pickle_check import is_harmless

_STORAGE_DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The number at the beginning of files of PyTorch before 1.6."""
SHARED = 4
"""Tensors may have at most this many times the bytes of the file, since some models share a few tensors."""
_INERT_MODULES = ("pytorch_lightning", "lightning", "lightning_fabric", "numpy", "omegaconf")
"""Libraries with objects beside the weights in released checkpoints. They are not imported."""
_INERT_NAMES = {("_codecs", "encode"), ("collections", "defaultdict"), ("torch", "Size"), ("torch", "device")}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _LazyTensor:
    """The place of a tensor in the archive. Strides and offset count elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_sound(self) -> bool:
        """False when the file has something else in place of a number."""
        numbers = (self.offset, *self.size, *self.stride)
        whole = all(isinstance(number, int) and 0 <= number < 2**63 for number in numbers)
        return isinstance(self.storage, _Storage) and whole and len(self.size) == len(self.stride) <= 16


class _Inert:
    """A placeholder for an object that does not matter. It accepts everything a pickle does to it and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def extend(self, values: object) -> None:
        pass


class _Tensor:
    """Called by a pickle to make a tensor. It has no attributes, since a pickle may set attributes of what it names."""

    __slots__ = ()

    def __call__(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: object
    ) -> _LazyTensor:
        return _LazyTensor(storage, int(offset), tuple(size), tuple(stride))


class _Parameter:
    """Called by a pickle to make a parameter."""

    __slots__ = ()

    def __call__(self, tensor: _LazyTensor, *rest: object) -> _LazyTensor:
        return tensor


class _Unpickler(pickle.Unpickler):
    """Knows only the names in `_KNOWN`. For any other name it raises an `AtelierError` with that name."""

    def __init__(self, file: IO[bytes], title: str) -> None:
        super().__init__(file, encoding="latin1")
        self._title = title

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _Tensor()
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return _Parameter()
        if module in ("torch", "torch.storage") and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        if (module, name) in _INERT_NAMES or module.split(".")[0] in _INERT_MODULES:
            return _Inert
        raise AtelierError(
            f"{self._title} is refused: loading it would run {module}.{name}, which no model needs. "
            "Use a .safetensors version of it."
        )

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, key = saved[0], saved[1], saved[2]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("unknown kind of storage")
        return _Storage(key, dtype)


def _load(file: IO[bytes], title: str) -> Any:
    """Reads the next pickle of a seekable file. Raises `AtelierError` when `pickle_check` refuses it."""
    start = file.tell()
    if not is_harmless(file):
        raise AtelierError(f"{title} is not a PyTorch checkpoint, or it is damaged.")
    file.seek(start)
    return _Unpickler(file, title).load()


class PickleFile:
    """A checkpoint of `torch.save`: a dictionary of tensors, or a dictionary with it under "state_dict".

    Raises `AtelierError` when the file wants to run code, is damaged or holds no such dictionary.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = {}
        self._archive: zipfile.ZipFile | None = None
        try:
            if zipfile.is_zipfile(path):
                self._archive = zipfile.ZipFile(path)
                content = self._unpickle(self._archive)
            else:
                content = _legacy(path)
        except AtelierError:
            self.close()
            raise
        except (OSError, zipfile.BadZipFile) as error:
            self.close()
            raise AtelierError(f"{path.name} cannot be read: {error}.") from error
        except Exception as error:
            self.close()
            raise AtelierError(f"{path.name} is not a PyTorch checkpoint, or it is damaged or incomplete.") from error
        self._tensors = _find_tensors(content)
        _check_total(self._tensors, path)
        if not self._tensors:
            self.close()
            raise AtelierError(f"{path.name} has no weights of a model.")
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(tensor.shape) if isinstance(tensor, Tensor) else tensor.size
            for name, tensor in self._tensors.items()
        }

    def _unpickle(self, archive: zipfile.ZipFile) -> Any:
        inner = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(inner) != 1:
            raise AtelierError(f"{self.path.name} is a zip file, but not a PyTorch checkpoint.")
        self._folder = inner[0][: -len("data.pkl")]
        with archive.open(self._whole(archive, inner[0])) as file:
            return _load(file, self.path.name)

    def _whole(self, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
        """An entry of the archive. PyTorch does not compress: an entry larger than the file would fill the memory."""
        entry = archive.getinfo(name)
        if entry.file_size > self.path.stat().st_size:
            raise AtelierError(f"{self.path.name} is damaged: what is in it is larger than the file.")
        return entry

    def dtype(self, name: str) -> torch.dtype:
        found = self._tensors[name]
        return found.dtype if isinstance(found, Tensor) else found.storage.dtype

    def read(self, name: str) -> Tensor:
        """The tensor, in its own memory."""
        found = self._tensors[name]
        if isinstance(found, Tensor):
            return found
        if self._archive is None:
            raise AtelierError(f"{self.path.name} is closed.")
        try:
            entry = self._whole(self._archive, f"{self._folder}data/{found.storage.key}")
            return _from_bytes(found, self._archive.read(entry))
        except (KeyError, RuntimeError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise AtelierError(f"{self.path.name} is damaged: {name} cannot be read.") from error

    def close(self) -> None:
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def __enter__(self) -> PickleFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _legacy(path: Path) -> Any:
    """The content of a file older than PyTorch 1.6: five pickles, then the storages one after the other."""
    with path.open("rb") as file:
        first = _load(file, path.name)
        if first != _LEGACY_MAGIC:
            return first
        for _ in ("protocol", "byte order and sizes"):
            _load(file, path.name)
        content = _load(file, path.name)
        keys = _load(file, path.name)
        storages: dict[str, tuple[int, bytes]] = {}
        dtypes = {lazy.storage.key: lazy.storage.dtype for lazy in _lazy_tensors(content)}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            size = count * torch.empty(0, dtype=dtypes.get(key, torch.uint8)).element_size()
            if size > path.stat().st_size - file.tell():
                raise AtelierError(f"{path.name} is incomplete. Download or copy it again.")
            storages[key] = (count, file.read(size))
    found = _find_tensors(content)
    _check_total(found, path)
    return {name: _from_bytes(lazy, storages[lazy.storage.key][1]) for name, lazy in found.items()}


def _check_total(tensors: Mapping[str, _LazyTensor | Tensor], path: Path) -> None:
    """Raises `AtelierError` when many tensors share few bytes, since each is read into its own memory."""
    lazy = [tensor for tensor in tensors.values() if isinstance(tensor, _LazyTensor)]
    total = sum(math.prod(tensor.size) * tensor.storage.dtype.itemsize for tensor in lazy)
    if total > SHARED * path.stat().st_size:
        raise AtelierError(f"{path.name} is damaged: its tensors are larger than the file.")


def _lazy_tensors(content: Any) -> list[_LazyTensor]:
    """All tensors in a checkpoint's dictionaries and lists, each of which is visited once."""
    found: list[_LazyTensor] = []
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _LazyTensor):
            found.append(item)
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting += item.values() if isinstance(item, dict) else item
    return found


def _from_bytes(lazy: _LazyTensor, raw: bytes) -> Tensor:
    """The tensor from the bytes of its storage, in its own memory. Raises ValueError when it exceeds its storage."""
    dtype = lazy.storage.dtype
    if math.prod(lazy.size) * torch.empty(0, dtype=dtype).element_size() > len(raw):
        raise ValueError("the tensor is larger than its storage")
    flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    strided = flat.as_strided(lazy.size, lazy.stride, lazy.offset)
    return strided if strided.numel() == flat.numel() and strided.is_contiguous() else strided.clone()


def _find_tensors(content: Any) -> dict[str, Any]:
    """The dictionary of tensors, also under "state_dict" or another usual key."""
    if not isinstance(content, dict):
        return {}
    for key in ("state_dict", "model_state_dict", "module", "model"):
        inner = content.get(key)
        if isinstance(inner, dict) and any(isinstance(value, (_LazyTensor, Tensor)) for value in inner.values()):
            content = inner
            break
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and (isinstance(value, Tensor) or (isinstance(value, _LazyTensor) and value.is_sound))
    }
