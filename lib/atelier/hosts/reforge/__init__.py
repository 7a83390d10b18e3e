"""reForge: A1111's page over ComfyUI's memory management; a model kept as `forge_objects`."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="reForge",
    adapter="atelier.hosts.reforge.host:ReForgeHost",
    needs=("modules_forge", "ldm_patched", "modules.hypernetworks"),
    without=("backend",),
)
