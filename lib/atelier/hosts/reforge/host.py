"""reForge: A1111's models and page over ComfyUI's memory management, LoRAs merged in by exchanging tensors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from atelier.config.errors import AtelierError
from atelier.hosts.contract import ModelInfo
from atelier.hosts.forge.host import ForgeHost, forget_loras

MODEL_TYPES = {"EPS": "epsilon", "V_PREDICTION": "v_prediction"}
"""reForge's words for what a UNet predicts, in ours."""


class ReForgeHost(ForgeHost):
    """Implements `hosts.contract.Host` inside reForge."""

    name = "reforge"

    # -- what is loaded -------------------------------------------------------------------------------------------

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one. A model that is being taken apart is none any more."""
        try:
            return super().loaded_model()
        except (AttributeError, StopIteration, TypeError):
            return None

    def load_chosen(self) -> None:
        """Nothing to do: reForge loads a checkpoint when it is chosen."""

    def _loaded_as(self, model: Any) -> str:
        """Tells the weights apart: the file's hash, the VAE put in, and a text encoder put in."""
        chosen = getattr(sys.modules.get("modules.sd_text_encoder"), "current_text_encoder_option", None)
        encoder = getattr(chosen, "label", None) if getattr(model, "_separate_te_loaded", False) else None
        return f"{model.sd_model_hash}:{getattr(model, 'loaded_vae_file', None)}:{encoder}"

    def _storage(self, model: Any) -> object:
        return next(model.forge_objects.unet.model.diffusion_model.parameters()).dtype

    def _prediction_type(self, model: Any) -> str:
        if getattr(model, "parameterization", "eps") == "v":
            return "v_prediction"
        named = getattr(getattr(model.forge_objects.unet.model, "model_type", None), "name", "EPS")
        return MODEL_TYPES.get(named, named)

    def _zero_terminal_snr(self, model: Any) -> bool:
        return bool(getattr(model, "ztsnr", False))

    # -- memory ---------------------------------------------------------------------------------------------------

    def _manager(self) -> Any:
        """reForge's memory management."""
        from ldm_patched.modules import model_management

        return model_management

    def _load(self, patchers: list[Any]) -> None:
        self._manager().load_models_gpu(patchers, memory_required=self._room, force_full_load=True)

    def restore_placement(self) -> None:
        """Frees what training left in the GPU's cache. Called inside the queue."""
        self._room = self.ROOM
        if self.device().type != "cpu":
            self._manager().soft_empty_cache(force=True)

    # -- LoRAs and results ----------------------------------------------------------------------------------------

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue.

        What a LoRA changed lies in a backup that all patchers of a model share: empty when there is none.
        """
        model = self._model()
        objects = model.forge_objects_original
        dirty = [patcher for patcher in (objects.unet, objects.clip.patcher) if patcher.backup]
        if not dirty:
            return
        forget_loras(model)
        with torch.inference_mode():
            for patcher in dirty:
                patcher.unpatch_model(patcher.model.device)

    def _expect_other_loras(self, model: Any) -> None:
        """The hash of the LoRAs decides alone: the next picture makes a patcher of its own."""

    def _no_scripts(self) -> Any:
        from modules.scripts import ScriptRunner

        return ScriptRunner()

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint; if asked, chooses it, which loads it in the queue."""
        from modules import sd_models, shared

        sd_models.list_models()
        if not load:
            return
        info = sd_models.get_closet_checkpoint_match(path.name)
        if info is None:
            raise AtelierError(f"reForge does not find {path.name} in {path.parent}, so it cannot load it.")
        shared.opts.set("sd_model_checkpoint", info.title)
