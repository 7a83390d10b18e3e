"""The memory of the device on which a WebUI computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from atelier.models.transfer import index_of


class DeviceMemory:
    """Free and total bytes; `ask` goes to the host's own manager where it has one."""

    def __init__(self, device: Callable[[], torch.device], make_room: Callable[[int], None] | None = None) -> None:
        self._device = device
        self._make_room = make_room

    def free(self) -> int:
        device = self._device()
        if device.type == "cuda":
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return torch.cuda.mem_get_info(index_of(device))[0] + unused
        return _system().available

    def total(self) -> int:
        device = self._device()
        return torch.cuda.mem_get_info(index_of(device))[1] if device.type == "cuda" else _system().total

    def ask(self, size: int) -> None:
        if self._make_room is not None:
            self._make_room(size)


def _system() -> Any:
    """The machine's memory, as psutil tells it."""
    import psutil

    return psutil.virtual_memory()
