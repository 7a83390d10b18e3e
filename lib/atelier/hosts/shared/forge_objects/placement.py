"""Where the parts of a model are, and room beside them: asked of memory management of ComfyUI's kind."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from atelier.hosts.shared.forge_objects.model import current
from atelier.models.checkpoints.size import bytes_on


class Management(Protocol):
    """What the WebUIs do each in a way of their own."""

    def manager(self) -> Any:
        """The module of the WebUI's memory management."""
        ...

    def load_whole(self, patchers: list[Any], room: int) -> None:
        """Has the WebUI load the patchers' whole models on its device, with `room` bytes left beside them."""
        ...

    def start_over(self) -> None:
        """Lets the WebUI arrange its models anew after training. Not called on a CPU."""
        ...


class ManagedPlacement:
    """Has the WebUI's memory management place the model for a turn.

    All but `device`, `keep_room`, `bytes_on_device` and `can_offload_denoiser` is called inside the queue.
    """

    ROOM = 2 * 1024**3
    """Bytes that the WebUI is asked to leave free on the GPU beside the model, if nobody asks for more."""

    def __init__(self, management: Management) -> None:
        self._management = management
        self._room = self.ROOM
        self._brought_with = 0
        """The room that the model was last brought with."""

    def device(self) -> torch.device:
        """The device that the WebUI computes on."""
        return torch.device(self._management.manager().get_torch_device())

    def keep_room(self, size: int) -> None:
        """Remembered for the next turn: moving models needs the queue, which the caller may hold already."""
        self._room = max(self.ROOM, size)

    def make_room(self, size: int) -> None:
        """Frees the GPU of what the WebUI loaded for a picture."""
        with torch.inference_mode():
            self._management.manager().free_memory(size, self.device())

    def bytes_on_device(self) -> int | None:
        """The WebUI keeps a model in the CPU's memory until the first picture, and when others need the room."""
        model = current()
        if model is None:
            return None
        objects = model.forge_objects
        roots = (objects.unet.model, objects.clip.patcher.model, objects.vae.first_stage_model)
        return sum(bytes_on(self.device(), root.parameters()) for root in roots)

    def load_to_device(self) -> None:
        """Has the WebUI load the whole model on the GPU, with room beside it; nothing where it is there already.

        The WebUIs' own look whether it is there empties torch's cache, whose memory the next step would have to ask
        the driver for again.
        """
        if self.device().type == "cpu":
            return
        objects = current().forge_objects
        patchers = [objects.unet, objects.clip.patcher, objects.vae.patcher]
        if self._room <= self._brought_with and all(self._is_there(patcher) for patcher in patchers):
            return
        with torch.inference_mode():
            self._management.load_whole(patchers, self._room)
        self._brought_with = self._room

    def _is_there(self, patcher: Any) -> bool:
        """True when the WebUI has the patcher's model on its device, from its first weight to its last."""
        weights = list(patcher.model.parameters())
        place = self.device().type
        known = bool(loaded_of(self._management.manager(), patcher))
        return known and all(weight.device.type == place for weight in (*weights[:1], *weights[-1:]))

    @property
    def can_offload_denoiser(self) -> bool:
        """The WebUI loads its UNet whenever it draws; told to keep all models on the GPU, it has no other place."""
        model = current()
        if model is None:
            return False
        try:
            elsewhere = torch.device(model.forge_objects.unet.offload_device)
        except AttributeError:  # the model is being taken apart
            return False
        return elsewhere.type == "cpu" != self.device().type

    def bring_without_unet(self) -> None:
        """Has the WebUI put the UNet into the CPU's memory, and the rest on the GPU."""
        objects = current().forge_objects
        manager = self._management.manager()
        with torch.inference_mode():
            loaded = loaded_of(manager, objects.unet)
            for one in loaded:
                manager.current_loaded_models.remove(one)
                one.model_unload()
            if loaded:
                manager.soft_empty_cache()
            self._management.load_whole([objects.clip.patcher, objects.vae.patcher], self._room)

    def restore(self) -> None:
        """Lets the WebUI go back to its own arrangement."""
        self._room, self._brought_with = self.ROOM, 0
        if self.device().type != "cpu":
            self._management.start_over()


def loaded_of(manager: Any, patcher: Any) -> list[Any]:
    """What the memory management has on the GPU of a patcher's model. Some hold their patchers weakly: None is gone."""
    return [one for one in manager.current_loaded_models if one.model is not None and one.model.is_clone(patcher)]
