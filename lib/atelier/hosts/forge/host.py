"""Forge: inference tensors, memory that Forge moves about, LoRAs merged into the base by exchanging its tensors."""

from __future__ import annotations

from pathlib import Path

from atelier.hosts.contract import implements_host
from atelier.hosts.forge.memory import ForgeManagement
from atelier.hosts.shared import a1111_kind
from atelier.hosts.shared.forge_objects.engine import facts_of, load_chosen
from atelier.hosts.shared.forge_objects.host import ForgeObjectsHost

TITLE = "Forge"


@implements_host
class ForgeHost(ForgeObjectsHost):
    """Implements `hosts.contract.Host` inside Forge, which loads a checkpoint only when it draws."""

    name = "forge"

    def __init__(self) -> None:
        super().__init__(ForgeManagement(), facts_of)

    def load_chosen(self) -> None:
        """Loads the checkpoint that is chosen on the page, in the queue. Raises `AtelierError` when it cannot be."""
        load_chosen(TITLE)

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint; if asked, chooses it on the page and loads it in the queue."""
        from modules import sd_models, shared
        from modules_forge import main_entry

        main_entry.refresh_models()
        if not load:
            return
        info = a1111_kind.listed_checkpoint(path, TITLE)
        main_entry.checkpoint_change(info.short_title if shared.opts.sd_checkpoint_dropdown_use_short else info.name)
        with self.queue():
            # A file written anew under the name of the loaded one is another model, which Forge does not see.
            sd_models.model_data.forge_hash = ""
            sd_models.forge_model_reload()
