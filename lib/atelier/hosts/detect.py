"""Which WebUI this is, told by what it has: the one place that asks."""

from __future__ import annotations

import importlib.util

from atelier.config.errors import AtelierError
from atelier.hosts.contract import Host


def has(module: str) -> bool:
    """True when a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def detect() -> Host:
    """The adapter for the WebUI that runs this process. Raises `AtelierError` when it is none that is known."""
    if has("modules_forge") and has("backend"):
        from atelier.hosts.forge.host import ForgeHost

        return ForgeHost()
    if has("modules_forge") and has("ldm_patched"):
        from atelier.hosts.reforge.host import ReForgeHost

        return ReForgeHost()
    if has("modules.sd_models") and has("modules.lowvram") and has("modules.call_queue"):
        from atelier.hosts.a1111.host import A1111Host

        return A1111Host()
    if has("modules.sd_offload") and has("modules.modeldata") and has("modules.call_queue"):
        from atelier.hosts.sdnext.host import SDNextHost

        return SDNextHost()
    raise AtelierError("This WebUI is none that Atelier knows; it knows AUTOMATIC1111, Forge, reForge and SD.Next.")
