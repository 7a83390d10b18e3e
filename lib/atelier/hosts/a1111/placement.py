"""Where the parts of A1111's model are: on the device, or with medvram and lowvram in the CPU's memory."""

from __future__ import annotations

import torch

from atelier.hosts.a1111.model import current, fetches_parts, text_module
from atelier.hosts.a1111.weights import named_tensors
from atelier.models.checkpoints.size import bytes_on


class Placement:
    """Brings the model to the device for a turn, and back to where the WebUI's hooks fetch it from.

    All but `bytes_on_device` is called inside the queue.
    """

    def __init__(self) -> None:
        self._moved = False

    @property
    def can_offload_denoiser(self) -> bool:
        """With medvram and lowvram the WebUI fetches its UNet from the CPU's memory whenever it draws."""
        return fetches_parts(current())

    def bytes_on_device(self) -> int | None:
        """Less than the model with medvram and lowvram."""
        from modules import devices

        model = current()
        if not fetches_parts(model):
            return None
        return bytes_on(torch.device(devices.device), (tensor for _, tensor in named_tensors(model)))

    def load_to_device(self) -> None:
        """medvram and lowvram keep parts in the CPU's memory: the whole model goes to the device for the turn."""
        if fetches_parts(current()):
            self._bring(unet=True)

    def bring_without_unet(self) -> None:
        """As `load_to_device`, but the UNet rests in the CPU's memory."""
        self._bring(unet=False)

    def _bring(self, unet: bool) -> None:
        from modules import devices, lowvram

        model = current()
        lowvram.send_everything_to_cpu()
        self._moved = True
        model.model.to(devices.device if unet else devices.cpu)
        for module in (model.first_stage_model, text_module(model)):
            module.to(devices.device)

    def restore(self) -> None:
        """Undoes `load_to_device`: everything goes to the CPU's memory, from where the WebUI's hooks fetch it."""
        from modules import devices

        model = current()
        if self._moved and model is not None:
            for module in (model.model, model.first_stage_model, text_module(model)):
                module.to(devices.cpu)
            devices.torch_gc()
        self._moved = False
