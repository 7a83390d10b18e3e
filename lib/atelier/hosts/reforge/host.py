"""reForge: A1111's models and page over ComfyUI's memory management, LoRAs merged in by exchanging tensors."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from atelier.hosts.contract import Folders, ModelInfo, SampleRequest, implements_host
from atelier.hosts.reforge import loras
from atelier.hosts.reforge.memory import ReForgeManagement
from atelier.hosts.reforge.model import facts_of
from atelier.hosts.shared import a1111_kind, interrogators
from atelier.hosts.shared.folders import folders_of
from atelier.hosts.shared.forge_objects.loras import list_loras_anew
from atelier.hosts.shared.forge_objects.model import model_info
from atelier.hosts.shared.forge_objects.placement import ManagedPlacement
from atelier.hosts.shared.lease import WebUILease
from atelier.hosts.shared.memory import DeviceMemory

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed


@implements_host
class ReForgeHost:
    """Implements `hosts.contract.Host` inside reForge, which loads a checkpoint when it is chosen."""

    name = "reforge"

    def __init__(self) -> None:
        self.folders: Folders = folders_of("Stable-diffusion")
        self._placement = ManagedPlacement(ReForgeManagement())
        self.memory = DeviceMemory(self._placement.device, self._placement.keep_room)

    @property
    def version(self) -> str:
        return a1111_kind.version()

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one. A model that is being taken apart is none any more."""
        try:
            return model_info(facts_of, self._placement.device)
        except (AttributeError, StopIteration, TypeError):
            return None

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

        return borrow(parts, facts_of, self._placement.device)

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue."""
        loras.remove_loras()

    # -- where the model is ---------------------------------------------------------------------------------------

    @property
    def can_offload_denoiser(self) -> bool:
        """True unless reForge is told to keep all models on the GPU, or has none."""
        return self._placement.can_offload_denoiser

    def bytes_on_device(self) -> int | None:
        """Less than the model until the first picture, and when others need the room."""
        return self._placement.bytes_on_device()

    def make_room(self, size: int) -> None:
        """Frees the GPU of what reForge loaded for a picture. Called inside the queue."""
        self._placement.make_room(size)

    def load_to_device(self) -> None:
        """Has reForge load the whole model on the GPU, with room beside it. Called inside the queue."""
        self._placement.load_to_device()

    def bring_without_unet(self) -> None:
        """As `load_to_device`, but the UNet rests in the CPU's memory. Called inside the queue."""
        self._placement.bring_without_unet()

    def restore_placement(self) -> None:
        """Lets reForge go back to its own arrangement. Called inside the queue."""
        self._placement.restore()

    # -- results --------------------------------------------------------------------------------------------------

    def publish_lora(self, path: Path) -> None:
        """Lists the LoRA, and makes reForge read it anew if it has an older file of that name.

        The hash of the LoRAs decides alone: the next picture makes a patcher of its own.
        """
        list_loras_anew()

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint; if asked, chooses it, which loads it in the queue."""
        from modules import sd_models, shared

        sd_models.list_models()
        if load:
            shared.opts.set("sd_model_checkpoint", a1111_kind.listed_checkpoint(path, "reForge").title)

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws through reForge's own txt2img, in its queue."""
        from modules.scripts import ScriptRunner

        return a1111_kind.draw(request, scripts=ScriptRunner())

    # -- what the page offers -------------------------------------------------------------------------------------

    def usual_request(self) -> SampleRequest:
        """What the person draws with on the txt2img page."""
        return a1111_kind.request_of_page()

    def captioners(self) -> tuple[str, ...]:
        """The WebUI's interrogators."""
        return interrogators.captioners()

    def caption(self, picture: Image.Image, captioner: str) -> str:
        """What an interrogator sees, in the queue. Raises `AtelierError`."""
        return a1111_kind.caption(picture, captioner)
