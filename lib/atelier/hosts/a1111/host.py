"""The adapter for AUTOMATIC1111's WebUI 1.10, with an LDM model, a FIFO queue, and LoRAs merged into the base."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from atelier.hosts.a1111 import loras, weights
from atelier.hosts.a1111.model import model_info
from atelier.hosts.a1111.placement import Placement
from atelier.hosts.contract import DrawnWith, Folders, ModelInfo, SampleRequest, implements_host
from atelier.hosts.shared import a1111_kind, interrogators, prompt_settings
from atelier.hosts.shared.folders import folders_of
from atelier.hosts.shared.lease import WebUILease
from atelier.hosts.shared.memory import DeviceMemory
from atelier.hosts.shared.resting_lease import RestingLease

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed


@implements_host
class A1111Host:
    """Implements `hosts.contract.Host` inside A1111."""

    name = "a1111"

    def __init__(self) -> None:
        from modules import devices

        self.folders: Folders = folders_of("Stable-diffusion")
        self.memory = DeviceMemory(lambda: torch.device(devices.device))
        self._placement = Placement()

    @property
    def version(self) -> str:
        return a1111_kind.version()

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one."""
        return model_info()

    def load_chosen(self) -> None:
        """Loads the chosen checkpoint in the queue, as a picture would. Raises `AtelierError` when it cannot."""
        a1111_kind.load_chosen("AUTOMATIC1111")

    # -- the loan -------------------------------------------------------------------------------------------------

    def lease(self, parts: frozenset[str]) -> WebUILease:
        """Borrows "unet", "text_encoder", "vae" of the loaded model."""
        return RestingLease(self, parts) if self.can_offload_denoiser else WebUILease(self, parts)

    def queue(self) -> AbstractContextManager[object]:
        """The WebUI's FIFO queue. Not re-entrant."""
        return a1111_kind.queue()

    def turn(self) -> AbstractContextManager[object]:
        """The queue."""
        return self.queue()

    def borrow(self, parts: frozenset[str]) -> Borrowed:
        """Views over the loaded model. Called inside the queue."""
        return weights.borrow(parts)

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue."""
        loras.remove_loras()

    # -- where the model is ---------------------------------------------------------------------------------------

    @property
    def can_offload_denoiser(self) -> bool:
        """True with medvram and lowvram, with which the WebUI fetches its UNet whenever it draws."""
        return self._placement.can_offload_denoiser

    def bytes_on_device(self) -> int | None:
        """Less than the model with medvram and lowvram."""
        return self._placement.bytes_on_device()

    def load_to_device(self) -> None:
        """Brings the whole model to the device. Called inside the queue."""
        self._placement.load_to_device()

    def bring_without_unet(self) -> None:
        """As `load_to_device`, but the UNet rests in the CPU's memory. Called inside the queue."""
        self._placement.bring_without_unet()

    def restore_placement(self) -> None:
        """Undoes both. Called inside the queue."""
        self._placement.restore()

    # -- results --------------------------------------------------------------------------------------------------

    def publish_lora(self, path: Path) -> None:
        """Lists the LoRA, and makes the WebUI read it anew if it has an older file of that name in memory."""
        loras.publish_lora(path)

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint, and loads it in the queue if asked."""
        from modules import sd_models

        sd_models.list_models()
        if load:
            info = sd_models.get_closet_checkpoint_match(path.name)
            with self.queue():
                sd_models.reload_model_weights(info=info)

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws through the WebUI's own txt2img, in its queue."""
        return a1111_kind.draw(request)

    # -- what the page offers -------------------------------------------------------------------------------------

    def drawn_with(self, family: str) -> DrawnWith:
        """What the WebUI's settings make of a prompt. Its "Clip skip" counts for SD1 only."""
        return prompt_settings.drawn_with(family, ("sd1",))

    def usual_request(self) -> SampleRequest:
        """What the person draws with on the txt2img page."""
        return a1111_kind.request_of_page()

    def captioners(self) -> tuple[str, ...]:
        """The WebUI's interrogators."""
        return interrogators.captioners()

    def caption(self, picture: Image.Image, captioner: str) -> str:
        """What an interrogator sees, in the queue. Raises `AtelierError`."""
        return a1111_kind.caption(picture, captioner)
