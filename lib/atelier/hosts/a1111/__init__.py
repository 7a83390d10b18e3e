"""AUTOMATIC1111's WebUI."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="AUTOMATIC1111",
    adapter="atelier.hosts.a1111.host:A1111Host",
    needs=("modules.sd_models", "modules.lowvram", "modules.call_queue"),
    without=("modules_forge",),
)
