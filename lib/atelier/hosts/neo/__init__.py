"""Forge Neo, to which Forge sends its users: Forge's engines, many more families, since 2026 ComfyUI's memory."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="Forge Neo",
    adapter="atelier.hosts.neo.host:NeoHost",
    needs=("modules_forge", "backend", "modules_forge.presets"),
)
