"""What the adapters of Forge, Forge Neo and reForge have in common: all but checkpoints and words of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from atelier.hosts.contract import DrawnWith, Folders, ModelInfo, SampleRequest
from atelier.hosts.shared import a1111_kind, interrogators, prompt_settings
from atelier.hosts.shared.folders import folders_of
from atelier.hosts.shared.forge_objects import loras
from atelier.hosts.shared.forge_objects.facts import Facts
from atelier.hosts.shared.forge_objects.model import model_info
from atelier.hosts.shared.forge_objects.placement import ManagedPlacement, Management
from atelier.hosts.shared.lease import WebUILease
from atelier.hosts.shared.memory import DeviceMemory

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed


class ForgeObjectsHost:
    """A host whose model is kept as `forge_objects`. `facts_of` puts what the WebUI says of a model into our words."""

    skipping: tuple[str, ...] = ("sd1", "sd2", "sdxl")
    """The families that the WebUI's "Clip skip" counts for."""

    def __init__(self, management: Management, facts_of: Callable[[Any], Facts]) -> None:
        self.folders: Folders = folders_of("Stable-diffusion")
        self._facts_of = facts_of
        self._placement = ManagedPlacement(management)
        self.memory = DeviceMemory(self._placement.device, self._placement.keep_room)

    @property
    def version(self) -> str:
        return a1111_kind.version()

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one."""
        return model_info(self._facts_of, self._placement.device)

    # -- the loan -------------------------------------------------------------------------------------------------

    def lease(self, parts: frozenset[str]) -> WebUILease:
        """Borrows "unet", "text_encoder", "vae" of the loaded model."""
        from atelier.hosts.shared.resting_lease import RestingLease

        return RestingLease(self, parts)

    def queue(self) -> AbstractContextManager[object]:
        """The WebUI's FIFO queue. Not re-entrant."""
        return a1111_kind.queue()

    def turn(self) -> AbstractContextManager[object]:
        """The queue."""
        return self.queue()

    def borrow(self, parts: frozenset[str]) -> Borrowed:
        """Views over the loaded model. Called inside the queue."""
        # Here and not above: diffusers takes seconds to import, which the WebUI's start must not wait for.
        from atelier.hosts.shared.forge_objects.weights import borrow

        return borrow(parts, self._facts_of, self._placement.device)

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue."""
        loras.remove_loras()

    # -- where the model is ---------------------------------------------------------------------------------------

    @property
    def can_offload_denoiser(self) -> bool:
        """True unless the WebUI is told to keep all models on the GPU, or has none."""
        return self._placement.can_offload_denoiser

    def bytes_on_device(self) -> int | None:
        """Less than the model until the first picture, and when others need the room."""
        return self._placement.bytes_on_device()

    def make_room(self, size: int) -> None:
        """Frees the GPU of what the WebUI loaded for a picture. Called inside the queue."""
        self._placement.make_room(size)

    def load_to_device(self) -> None:
        """Has the WebUI load the whole model on the GPU, with room beside it. Called inside the queue."""
        self._placement.load_to_device()

    def bring_without_unet(self) -> None:
        """As `load_to_device`, but the UNet rests in the CPU's memory. Called inside the queue."""
        self._placement.bring_without_unet()

    def restore_placement(self) -> None:
        """Lets the WebUI go back to its own arrangement. Called inside the queue."""
        self._placement.restore()

    # -- results --------------------------------------------------------------------------------------------------

    def publish_lora(self, path: Path) -> None:
        """Lists the LoRA, and makes the WebUI read and merge it anew if it has an older file of that name."""
        loras.publish_lora()

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws through the WebUI's own txt2img, in its queue."""
        return a1111_kind.draw(request)

    # -- what the page offers -------------------------------------------------------------------------------------

    def drawn_with(self, family: str) -> DrawnWith:
        """What the WebUI's settings make of a prompt."""
        return prompt_settings.drawn_with(family, self.skipping)

    def usual_request(self) -> SampleRequest:
        """What the person draws with on the txt2img page."""
        return a1111_kind.request_of_page()

    def captioners(self) -> tuple[str, ...]:
        """The WebUI's interrogators, none where it has none."""
        return interrogators.captioners()

    def caption(self, picture: Image.Image, captioner: str) -> str:
        """What an interrogator sees, in the queue. Raises `AtelierError`."""
        return a1111_kind.caption(picture, captioner)
