"""reForge's memory management, which is ComfyUI's, as the trainer uses it."""

from __future__ import annotations

from typing import Any


class ReForgeManagement:
    """Implements `shared.forge_objects.placement.Management`."""

    def manager(self) -> Any:
        """The module of reForge's memory management."""
        from ldm_patched.modules import model_management

        return model_management

    def load_whole(self, patchers: list[Any], room: int) -> None:
        """Has reForge load the patchers' models on the GPU, all of their layers, with `room` bytes left."""
        self.manager().load_models_gpu(patchers, memory_required=room, force_full_load=True)

    def start_over(self) -> None:
        """Frees what training left in the GPU's cache; the models may stay."""
        self.manager().soft_empty_cache(force=True)
