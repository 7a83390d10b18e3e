"""reForge: A1111's models and page over ComfyUI's memory management, LoRAs merged in by exchanging tensors."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from atelier.hosts.contract import ModelInfo, SampleRequest, implements_host
from atelier.hosts.reforge.memory import ReForgeManagement
from atelier.hosts.reforge.model import facts_of
from atelier.hosts.shared import a1111_kind
from atelier.hosts.shared.forge_objects.host import ForgeObjectsHost


@implements_host
class ReForgeHost(ForgeObjectsHost):
    """Implements `hosts.contract.Host` inside reForge, which loads a checkpoint when it is chosen."""

    name = "reforge"
    skipping = ("sd1",)

    def __init__(self) -> None:
        super().__init__(ReForgeManagement(), facts_of)

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one. A model that is being taken apart is none any more."""
        try:
            return super().loaded_model()
        except (AttributeError, StopIteration, TypeError):
            return None

    def load_chosen(self) -> None:
        """Loads the chosen checkpoint in the queue, as a picture would. Raises `AtelierError` when it cannot."""
        a1111_kind.load_chosen("reForge")

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
