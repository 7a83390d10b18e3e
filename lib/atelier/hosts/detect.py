"""Detects which WebUI runs this process, by the modules it has."""

from __future__ import annotations

import importlib.util

from atelier import hosts
from atelier.config.discovery import offered
from atelier.config.errors import AtelierError
from atelier.hosts.contract import Host
from atelier.hosts.webui import WebUI


def has(module: str) -> bool:
    """True when a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def known() -> list[WebUI]:
    """The WebUIs that have an adapter: what the folders beside this file offer."""
    return offered(hosts, "WEBUI")


def detect() -> Host:
    """The adapter for the WebUI that runs this process. Raises `AtelierError` when there is none."""
    webuis = known()
    for webui in webuis:
        if webui.is_here(has):
            if webui.refusal:
                raise AtelierError(webui.refusal)
            return webui.host()
    *titles, last = [webui.title for webui in webuis if not webui.refusal]
    raise AtelierError(f"This WebUI is not supported. Atelier runs in {', '.join(titles)} and {last}.")
