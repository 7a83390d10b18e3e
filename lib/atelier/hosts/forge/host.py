"""Forge: inference tensors, memory that Forge moves about, LoRAs merged into the base by exchanging its tensors."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atelier.config.errors import AtelierError
from atelier.hosts.a1111.host import A1111Host
from atelier.hosts.contract import ModelInfo
from atelier.hosts.forge.refusals import family_of, refusal_of
from atelier.hosts.shared.folders import folders_of
from atelier.hosts.shared.lease import WebUILease
from atelier.hosts.shared.memory import DeviceMemory
from atelier.models.checkpoints.size import bytes_on

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed
    from atelier.models.views.from_ldm import Weights

NO_LORAS = str([])
"""What Forge notes as the hash of no LoRA."""


class ForgeHost(A1111Host):
    """Implements `hosts.contract.Host` inside Forge, an offspring of A1111: queue, turns and drawing are the same."""

    name = "forge"
    ROOM = 2 * 1024**3
    """Bytes that Forge is asked to leave free on the GPU beside the model, if nobody asks for more."""

    def __init__(self) -> None:
        self.folders = folders_of("Stable-diffusion")
        self.memory = DeviceMemory(self.device, self._make_room)
        self._room = self.ROOM

    # -- what is loaded -------------------------------------------------------------------------------------------

    def _model(self) -> Any:
        """Forge's engine, or None; never makes it load one. Until the first picture there is a placeholder."""
        from modules import sd_models

        model = sd_models.model_data.sd_model
        return model if getattr(model, "forge_objects", None) is not None else None

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one."""
        model = self._model()
        checkpoint = getattr(model, "sd_checkpoint_info", None)
        if model is None or checkpoint is None:
            return None
        path = Path(checkpoint.filename)
        prediction = self._prediction_type(model)
        parameter = next(model.forge_objects.unet.model.diffusion_model.parameters())
        return ModelInfo(
            title=checkpoint.name_for_extra,
            family=family_of(model),
            path=path,
            identity=f"{path}:{path.stat().st_mtime_ns if path.exists() else 0}:{self._loaded_as(model)}",
            prediction_type=prediction,
            dtype=str(parameter.dtype).removeprefix("torch."),
            device=str(self.device()),
            refusal=refusal_of(model, self._storage(model), prediction),
        )

    def load_chosen(self) -> None:
        """Loads the checkpoint that is chosen on the page: Forge would do it only at the next picture.

        Takes the queue. Raises `AtelierError` when it cannot be loaded.
        """
        from modules import sd_models

        with self.queue():
            try:
                sd_models.forge_model_reload()
            except ValueError as error:  # Forge's own sentences: no model there, or of no known kind
                raise AtelierError(f"Forge could not load the chosen checkpoint: {error}") from error

    def _loaded_as(self, model: Any) -> str:
        """Tells the weights apart: the file's hash, the VAE and text encoders put in, the type they are kept in."""
        from modules import sd_models

        choices = hashlib.sha256(str(sd_models.model_data.forge_hash).encode()).hexdigest()[:12]
        return f"{model.sd_model_hash}:{choices}"

    def _storage(self, model: Any) -> object:
        return model.forge_objects.unet.model.storage_dtype

    def _prediction_type(self, model: Any) -> str:
        return str(getattr(model.forge_objects.unet.model.predictor, "prediction_type", "epsilon"))

    def _zero_terminal_snr(self, model: Any) -> bool:
        return bool(getattr(model.model_config, "ztsnr", False))

    # -- memory ---------------------------------------------------------------------------------------------------

    def _manager(self) -> Any:
        """Forge's memory management."""
        from backend import memory_management

        return memory_management

    def device(self) -> torch.device:
        """The device that Forge computes on."""
        return torch.device(self._manager().get_torch_device())

    def _make_room(self, size: int) -> None:
        """Remembered for the next turn: moving models needs the queue, which the caller may hold already."""
        self._room = max(self.ROOM, size)

    def make_room(self, size: int) -> None:
        """Frees the GPU of what Forge loaded for a picture. Called inside the queue."""
        with torch.inference_mode():
            self._manager().free_memory(size, self.device())

    def bytes_on_device(self) -> int | None:
        """Forge keeps a model in the processor's memory until the first picture, and when others need the room."""
        model = self._model()
        if model is None:
            return None
        objects = model.forge_objects
        roots = (objects.unet.model, objects.clip.patcher.model, objects.vae.first_stage_model)
        return sum(bytes_on(self.device(), root.parameters()) for root in roots)

    def load_to_device(self) -> None:
        """Has Forge load the whole model on the GPU, with room beside it. Called inside the queue."""
        if self.device().type == "cpu":
            return
        objects = self._model().forge_objects
        patchers = [objects.unet, objects.clip.patcher, objects.vae.patcher]
        with torch.inference_mode():
            self._load(patchers)

    @property
    def can_offload_denoiser(self) -> bool:
        """Forge loads its UNet whenever it draws; told to keep all models on the GPU, it has no other place for it."""
        model = self._model()
        if model is None:
            return False
        return bool(torch.device(model.forge_objects.unet.offload_device).type == "cpu" != self.device().type)

    def bring_without_unet(self) -> None:
        """Has Forge put the UNet into the processor's memory, and the rest on the GPU. Called inside the queue."""
        objects = self._model().forge_objects
        manager = self._manager()
        with torch.inference_mode():
            loaded = self._loaded(objects.unet)
            for one in loaded:
                manager.current_loaded_models.remove(one)
                one.model_unload()
            if loaded:
                manager.soft_empty_cache()
            self._load([objects.clip.patcher, objects.vae.patcher])

    def _loaded(self, patcher: Any) -> list[Any]:
        """What the memory management has on the GPU of a patcher's model."""
        return [one for one in self._manager().current_loaded_models if one.model.is_clone(patcher)]

    def _load(self, patchers: list[Any]) -> None:
        manager = self._manager()
        manager.load_models_gpu(patchers, hard_memory_preservation=self._room)
        for patcher in patchers:
            # "GPU Weights" lets Forge keep layers on the processor and fetch them one by one: a view cannot.
            if any(hasattr(module, "prev_parameters_manual_cast") for module in patcher.model.modules()):
                for loaded in self._loaded(patcher)[:1]:
                    loaded.model_unload()
                    loaded.model_load()

    def restore_placement(self) -> None:
        """Lets Forge start over with its own arrangement at the next picture. Called inside the queue."""
        self._room = self.ROOM
        if self.device().type == "cpu":
            return
        from modules import processing

        self._manager().soft_empty_cache()
        processing.need_global_unload = True

    # -- the loan -------------------------------------------------------------------------------------------------

    def lease(self, parts: frozenset[str]) -> WebUILease:
        """Borrows "unet", "text_encoder", "vae" of the loaded model."""
        from atelier.hosts.forge.lease import ForgeLease

        return ForgeLease(self, parts)

    def borrow(self, parts: frozenset[str]) -> Borrowed:
        """Views over the loaded model. Called inside the queue."""
        from atelier.hosts.forge.weights import Copies, all_tensors, read_weights
        from atelier.hosts.shared.borrowed import Borrowed
        from atelier.models.assets import load_tokenizers
        from atelier.models.registry import family_named

        model = self._model()
        family = family_named(str(family_of(model)))
        copies = Copies(self.device)

        def read() -> Weights:
            return read_weights(family, self._model().forge_objects_original, parts, copies.usable)

        return Borrowed(
            family,
            read,
            lambda: all_tensors(self._model().forge_objects_original, family.name),
            load_tokenizers(family.name),
            self._prediction_type(model),
            self._zero_terminal_snr(model),
        )

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue.

        Forge exchanges the tensors that a LoRA changes and keeps the old ones; it notes on the model which LoRAs are
        in it, so that asking costs two comparisons.
        """
        model = self._model()
        patchers = [model.forge_objects_original.unet, model.forge_objects_original.clip.patcher]
        if all(patcher.model.lora_loader.loaded_hash == NO_LORAS for patcher in patchers):
            return
        forget_loras(model)
        for patcher in patchers:
            patcher.refresh_loras()

    # -- results --------------------------------------------------------------------------------------------------

    def publish_lora(self, path: Path) -> None:
        """Lists the LoRA, and makes Forge read and merge it anew if it has an older file of that name."""
        networks = sys.modules.get("networks")
        if networks is None:
            return
        networks.list_available_networks()
        networks.load_lora_state_dict.cache_clear()
        model = self._model()
        if model is None:
            return
        model.current_lora_hash = ""
        self._expect_other_loras(model)

    def _expect_other_loras(self, model: Any) -> None:
        """What is merged now may be an older file of the same name: the next picture takes it out and merges anew."""
        objects = model.forge_objects_original
        for loader in (objects.unet.model.lora_loader, objects.clip.patcher.model.lora_loader):
            if loader.loaded_hash != NO_LORAS:
                loader.loaded_hash = ""

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint; if asked, chooses it on the page and loads it in the queue."""
        from modules import sd_models, shared
        from modules_forge import main_entry

        main_entry.refresh_models()
        if not load:
            return
        info = sd_models.get_closet_checkpoint_match(path.name)
        if info is None:
            raise AtelierError(f"Forge does not find {path.name} in {path.parent}, so it cannot load it.")
        main_entry.checkpoint_change(info.short_title if shared.opts.sd_checkpoint_dropdown_use_short else info.name)
        with self.queue():
            # A file written anew under the name of the loaded one is another model, which Forge does not see.
            sd_models.model_data.forge_hash = ""
            sd_models.forge_model_reload()


def forget_loras(model: Any) -> None:
    """Makes the model one that no LoRA was asked for, as it is after a picture without any."""
    networks = sys.modules.get("networks")
    if networks is not None:
        networks.loaded_networks.clear()
    model.current_lora_hash = NO_LORAS
    model.forge_objects = model.forge_objects_original.shallow_copy()
    model.forge_objects_after_applying_lora = model.forge_objects_original.shallow_copy()
