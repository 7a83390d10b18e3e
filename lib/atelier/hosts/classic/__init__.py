"""Forge Classic: Forge as it was before Gradio 4, without what its maker found superfluous. Not trained in yet."""

from atelier.hosts.webui import WebUI

WEBUI = WebUI(
    title="Forge Classic",
    adapter="",
    needs=("modules_forge", "ldm_patched"),
    without=("backend", "modules.hypernetworks"),
    refusal="Atelier does not run in Forge Classic yet. It does in Forge Neo, by the same maker, and in reForge.",
)
