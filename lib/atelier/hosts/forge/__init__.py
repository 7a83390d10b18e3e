"""Forge."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="Forge",
    adapter="atelier.hosts.forge.host:ForgeHost",
    needs=("modules_forge", "backend"),
)
