"""States to resume from: complete, checked by a checksum, and never half-written.

A state is one safetensors file with the tensors of the trained weights and of the optimizer. Everything else is JSON in
its header, with a checksum over both. The last two states are kept; a damaged one is skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atelier.config.errors import AtelierError
from atelier.config.files.durable import put_in_place
from atelier.models.checkpoints.writing import entry, write_tensors

VERSION = 1
KEPT = 2


@dataclass
class State:
    """All that a run needs to go on. `step`: number of finished optimizer steps."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def pack(value: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """A copy of nested dicts and lists for JSON. Each tensor is moved to `tensors` and replaced by its name there.

    Dict keys may be strings or integers (optimizers number their parameters).
    """
    if isinstance(value, Tensor):
        tensors[prefix] = value
        return {"tensor": prefix}
    if isinstance(value, Mapping):
        return {"dict": [[key, pack(item, f"{prefix}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [pack(item, f"{prefix}.{index}", tensors) for index, item in enumerate(value)]}
    if isinstance(value, list):
        return [pack(item, f"{prefix}.{index}", tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{prefix}: a {type(value).__name__} cannot be kept in a state")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if isinstance(value, Mapping):
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "tuple" in value:
            return tuple(unpack(item, tensors) for item in value["tuple"])
        return {key: unpack(item, tensors) for key, item in value["dict"]}
    return value


def write_state(folder: Path, state: State) -> Path:
    """Writes STEP.safetensors to `folder` and removes all but the last two states.

    The file is on the disk before it gets its name. Tensors are written one at a time, since the state of a whole model
    is large. Raises `OSError` when the disk is full; older states stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = json.dumps({"version": VERSION, "step": state.step, "values": state.values})
    metadata = {"atelier_state": values, "checksum": _checksum(state.tensors, values)}
    for left in folder.glob(".*.tmp"):  # left by a process that was killed while writing
        with contextlib.suppress(OSError):
            left.unlink(missing_ok=True)
    path = folder / f"{state.step:09d}.safetensors"
    temporary = folder / f".{path.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            write_tensors(file, [entry(name, tensor) for name, tensor in state.tensors.items()], metadata)
        put_in_place(temporary, path)
    except Exception as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise
        raise OSError(f"{path.name} could not be written: {error}") from error
    for old in _states(folder)[:-KEPT]:
        with contextlib.suppress(OSError):  # then it is removed after the next state
            old.unlink(missing_ok=True)
    return path


def read_newest(folder: Path) -> State | None:
    """The newest intact state in `folder`; None when there is none.

    Raises `AtelierError` for a state of a newer version of Atelier.
    """
    for path in reversed(_states(folder)):
        state = _read(path)
        if state is not None:
            return state
    return None


def go_back(folder: Path) -> State | None:
    """The newest intact state, to go on from. Newer states, which are damaged, are renamed.

    Otherwise they would count as the last two states, and new states would be removed.
    """
    state = read_newest(folder)
    for path in _states(folder):
        if state is None or int(path.stem) > state.step:
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
    return state


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors")) if folder.is_dir() else []


def _read(path: Path) -> State | None:
    """The state in `path`; None when it is damaged."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            # Copies: older versions of safetensors leave tensors in the mapped file, at any address.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
        values = metadata["atelier_state"]
        if _checksum(tensors, values) != metadata["checksum"]:
            return None
        header = json.loads(values)
    except (OSError, KeyError, ValueError, SafetensorError):
        return None
    if header["version"] > VERSION:
        raise AtelierError(f"{path} was written by a newer version of Atelier. Update Atelier to resume this run.")
    return State(header["step"], tensors, header["values"])


def _checksum(tensors: Mapping[str, Tensor], values: str) -> str:
    digest = hashlib.blake2b(values.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
