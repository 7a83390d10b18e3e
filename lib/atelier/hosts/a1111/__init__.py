"""AUTOMATIC1111: an LDM model, a FIFO queue, LoRAs merged into the weights; medvram and lowvram move it about."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="AUTOMATIC1111",
    adapter="atelier.hosts.a1111.host:A1111Host",
    needs=("modules.sd_models", "modules.lowvram", "modules.call_queue"),
    without=("modules_forge",),
)
