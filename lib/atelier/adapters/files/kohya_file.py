"""Reads LoRA files (metadata first, tensors on demand) and writes them as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from atelier.adapters.files.layouts import kind_of
from atelier.adapters.files.whole_layers import fault_of
from atelier.config.errors import AtelierError, few
from atelier.config.files.durable import put_in_place
from atelier.config.files.paths import is_file
from atelier.config.imports.tensor_header import is_entry
from atelier.models.checkpoints.pickle_file import PickleFile

HASH_START, HASH_SIZE = 0x100000, 0x10000
"""The old WebUI hash is computed from the 64 KiB after the first mebibyte."""
LARGEST_HEADER = 100 * 2**20


@dataclass(frozen=True)
class LoRAFile:
    """A LoRA file. Metadata and shapes are read at once, tensors when they are asked for."""

    path: Path
    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    _loaded: dict[str, Tensor] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def kind(self) -> str:
        """ "lora", "locon", "dora", "loha", "lokr", "ia3", "oft", "boft", "full", "glora", "norm" or "unknown"."""
        return kind_of(self.shapes)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors, on the CPU. The file is neither kept open nor mapped, so it can be replaced.

        Raises `AtelierError` when the file can no longer be read.
        """
        if self._loaded is not None:
            return self._loaded
        try:
            return safetensors.torch.load(self.path.read_bytes())
        except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
            raise AtelierError(f"{self.path.name} could not be read: {error}. Download or save it again.") from error

    @cached_property
    def broken(self) -> list[str]:
        """Names of the tensors with NaN or infinite values."""
        return sorted(name for name, tensor in self.tensors.items() if not _is_finite(tensor))

    def check_finite(self, used_as: str = "") -> None:
        """Raises `AtelierError` for a file with NaN or infinite values, which would spoil all that is made with it.

        `used_as`: the setting that names the file, for the beginning of the sentence.
        """
        if self.broken:
            before = f"{used_as}: " if used_as else ""
            raise AtelierError(
                f"{before}{self.path.name} holds NaN or infinite values, in {len(self.broken)} of its "
                f"{len(self.tensors)} tensors ({few(self.broken)}). It cannot be used; choose another file."
            )


def _is_finite(tensor: Tensor) -> bool:
    """Not every torch can ask this of 8-bit numbers."""
    return bool((tensor if tensor.is_complex() else tensor.float()).isfinite().all())


def read_lora(path: str | Path) -> LoRAFile:
    """Opens a .safetensors LoRA, or an old .pt / .ckpt / .bin, which is read without running code in it.

    Raises `AtelierError` when the file is missing, truncated or no LoRA, and when its layers are not complete.
    """
    path = Path(path)
    file = _read_pickle(path) if path.suffix.lower() in (".pt", ".pth", ".ckpt", ".bin") else _read_safetensors(path)
    fault = fault_of(file.shapes)
    if fault is not None:
        raise AtelierError(f"{path.name} is damaged: {fault}. Download or save it again.")
    return file


def _read_safetensors(path: Path) -> LoRAFile:
    try:
        header = read_header(path)
    except FileNotFoundError as error:
        raise AtelierError(f"There is no LoRA file {path.name} in {path.parent}.") from error
    except (OSError, ValueError) as error:
        raise AtelierError(
            f"{path.name} is not a complete .safetensors file ({error}). Download or save it again."
        ) from error
    metadata = {str(key): str(value) for key, value in (header.pop("__metadata__", None) or {}).items()}
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    return LoRAFile(path, metadata, shapes)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a .safetensors file. Raises `ValueError` when the file is truncated or of another kind."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise ValueError("it is too short")
        length = struct.unpack("<Q", first)[0]
        if length > min(size - 8, LARGEST_HEADER):
            raise ValueError("its header is incomplete")
        try:
            header = json.loads(file.read(length))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError("its header is unreadable") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__") or {}, dict):
        raise ValueError("its header is unreadable")
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    if not all(is_entry(entry) for entry in entries):
        raise ValueError("its header is unreadable")
    ends = [entry["data_offsets"][1] for entry in entries]
    if 8 + length + max(ends, default=0) > size:
        raise ValueError("its end is missing")
    return header


def save_lora(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], overwrite: bool = False
) -> Path:
    """Writes a LoRA file under a temporary name in the same folder, and then renames it.

    Adds `sshs_model_hash` and `sshs_legacy_hash`. Raises `AtelierError` when the file exists and `overwrite` is False,
    or when it cannot be written; an existing file is then unchanged.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise AtelierError(f"{path.name} exists already in {path.parent} and was not changed. Choose another name.")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts = {str(key): str(value) for key, value in metadata.items()}
    model_hash, legacy_hash = lora_hashes(plain, texts)
    texts["sshs_model_hash"], texts["sshs_legacy_hash"] = model_hash, legacy_hash
    write_atomically(path, safetensors.torch.save(plain, texts), overwrite)
    return path


def lora_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[str, str]:
    """(sshs_model_hash, sshs_legacy_hash): the hash of all tensors' bytes, and the old WebUI hash.

    The latter is that of a file whose metadata are only the ss_* keys.
    """
    training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    whole = memoryview(safetensors.torch.save(dict(tensors), training))
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    legacy = hashlib.sha256(whole[HASH_START : HASH_START + HASH_SIZE]).hexdigest()[:8]
    return hashlib.sha256(whole[start:]).hexdigest(), legacy


def write_atomically(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Writes `content` so that a reader sees either the old or the whole new file, even after a power cut.

    Raises `AtelierError`, which names the folder, when it cannot be written, or when `path` exists and `overwrite` is
    False.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not overwrite:
            raise FileExistsError(path)
        put_in_place(part, path)
    except FileExistsError as error:
        raise AtelierError(f"{path.name} was created in {path.parent} meanwhile and was not changed.") from error
    except OSError as error:
        raise AtelierError(f"{path.name} could not be written to {path.parent}: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _read_pickle(path: Path) -> LoRAFile:
    if not is_file(path):
        raise AtelierError(f"There is no LoRA file {path.name} in {path.parent}.")
    with PickleFile(path) as file:
        tensors = {name: file.read(name) for name in file.shapes}
    return LoRAFile(path, {}, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors)
