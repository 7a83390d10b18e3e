"""Forge Neo's memory management, which is ComfyUI's of 2026, as the trainer uses it."""

from __future__ import annotations

from typing import Any

import torch

from atelier.hosts.shared.forge_objects.placement import loaded_of

WHOLE = 1e32
"""The bytes that its memory management names when it means all of a model."""


class NeoManagement:
    """Implements `shared.forge_objects.placement.Management`."""

    def manager(self) -> Any:
        """The module of Forge Neo's memory management."""
        from backend import memory_management

        return memory_management

    def load_whole(self, patchers: list[Any], room: int) -> None:
        """Has Forge Neo load the patchers' models on the GPU, all of their layers, with `room` bytes left."""
        manager = self.manager()
        manager.load_models_gpu(patchers, memory_required=room, force_full_load=True)
        for patcher in patchers:
            # Told to keep models off the GPU, it leaves all layers in the CPU's memory: a view cannot fetch them.
            place = torch.device(patcher.load_device).type
            if any(weight.device.type != place for weight in patcher.model.parameters()):
                for loaded in loaded_of(manager, patcher)[:1]:
                    loaded.model_use_more_vram(WHOLE)

    def start_over(self) -> None:
        """Frees what training left in the GPU's cache; the models may stay."""
        self.manager().soft_empty_cache(force=True)
