"""Memory of the device the embedded host computes on."""

from __future__ import annotations

import gc

import psutil
import torch


class DeviceMemory:
    """Implements `hosts.contract.Memory`: bytes of the GPU, or of the machine when there is none."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def free(self) -> int:
        if self.device.type == "cuda":
            unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return int(torch.cuda.mem_get_info(self.device)[0] + unused)
        return int(psutil.virtual_memory().available)

    def total(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[1])
        return int(psutil.virtual_memory().total)

    def ask(self, size: int) -> None:
        """This host keeps one model and nothing else, so all it can give is what Python and torch hold unused."""
        if self.free() >= size:
            return
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
