"""Memory of the device the embedded host computes on."""

from __future__ import annotations

import gc

import torch

from atelier.hosts.shared.memory import DeviceMemory as WebUIMemory


class DeviceMemory(WebUIMemory):
    """Implements `hosts.contract.Memory`: bytes of the GPU, or of the machine when there is none."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(lambda: device)
        self.device = device

    def ask(self, size: int) -> None:
        """This host keeps one model and nothing else, so all it can give is what Python and torch hold unused."""
        if self.free() >= size:
            return
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
