"""SD.Next: a diffusers pipeline behind a plain lock, offloaded in several ways."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="SD.Next",
    adapter="atelier.hosts.sdnext.host:SDNextHost",
    needs=("modules.sd_offload", "modules.modeldata", "modules.call_queue"),
    without=("modules_forge", "modules.lowvram"),
)
