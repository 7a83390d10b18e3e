"""Forge Neo: Forge's engines and queue, ComfyUI's memory management, and a preset for each family of models.

Two kinds are in use. Until July 2026 a loader on the model merged LoRAs, as in Forge; since then the patchers do.
"""

from __future__ import annotations

from pathlib import Path

from atelier.hosts.contract import implements_host
from atelier.hosts.neo import checkpoints
from atelier.hosts.neo.memory import NeoManagement
from atelier.hosts.neo.model import facts_of
from atelier.hosts.shared.forge_objects.engine import load_chosen
from atelier.hosts.shared.forge_objects.host import ForgeObjectsHost

TITLE = "Forge Neo"


@implements_host
class NeoHost(ForgeObjectsHost):
    """Implements `hosts.contract.Host` inside Forge Neo, which loads a checkpoint only when it draws."""

    name = "neo"

    def __init__(self) -> None:
        super().__init__(NeoManagement(), facts_of)

    @property
    def version(self) -> str:
        """The release; "" before there were any."""
        from modules_forge import forge_version

        return str(getattr(forge_version, "release", ""))

    def load_chosen(self) -> None:
        """Loads the checkpoint that is chosen on the page, in the queue. Raises `AtelierError` when it cannot be."""
        load_chosen(TITLE)

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint; if asked, chooses it with its family's preset, and loads it in the queue."""
        checkpoints.publish_checkpoint(path, load, TITLE)

    def card_version(self, family: str) -> str | None:
        """The word in a LoRA's NAME.json by which its card is shown with its preset: the preset's name."""
        return checkpoints.PRESETS.get(family)
