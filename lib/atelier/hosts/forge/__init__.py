"""Forge: a model kept as `forge_objects`, moved by its memory management; LoRAs merged by exchanging tensors."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="Forge",
    adapter="atelier.hosts.forge.host:ForgeHost",
    needs=("modules_forge", "backend"),
    without=("modules_forge.presets",),
)
