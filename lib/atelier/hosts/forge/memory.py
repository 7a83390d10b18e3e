"""Forge's memory management, as the trainer uses it."""

from __future__ import annotations

from typing import Any

from atelier.hosts.shared.forge_objects.placement import loaded_of


class ForgeManagement:
    """Implements `shared.forge_objects.placement.Management`."""

    def manager(self) -> Any:
        """The module of Forge's memory management."""
        from backend import memory_management

        return memory_management

    def load_whole(self, patchers: list[Any], room: int) -> None:
        """Has Forge load the patchers' models on the GPU, all of their layers, with `room` bytes left."""
        manager = self.manager()
        manager.load_models_gpu(patchers, hard_memory_preservation=room)
        for patcher in patchers:
            # "GPU Weights" lets Forge keep layers in the CPU's memory and fetch them one by one: a view cannot.
            if any(hasattr(module, "prev_parameters_manual_cast") for module in patcher.model.modules()):
                for loaded in loaded_of(manager, patcher)[:1]:
                    loaded.model_unload()
                    loaded.model_load()

    def start_over(self) -> None:
        """Forge arranges its models anew at the next picture."""
        from modules import processing

        self.manager().soft_empty_cache()
        processing.need_global_unload = True
