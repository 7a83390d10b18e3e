"""Describes a WebUI, so that it can be detected. Each adapter's folder offers a `WEBUI`; no list names them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.hosts.contract import Host


@dataclass(frozen=True)
class WebUI:
    """A WebUI with an adapter. The description imports neither the adapter nor the WebUI."""

    title: str
    """Its name for people."""
    adapter: str
    """The class that implements `contract.Host`, as "module:Class". It takes no arguments."""
    needs: tuple[str, ...]
    """Modules that it must have."""
    without: tuple[str, ...] = ()
    """Modules that it must not have, to distinguish it from WebUIs derived from it."""
    refusal: str = ""
    """Why training does not run in it: a sentence. Its `adapter` is then ""."""

    def is_here(self, has: Callable[[str], bool]) -> bool:
        """True when `has(module)` fits this WebUI."""
        return all(has(module) for module in self.needs) and not any(has(module) for module in self.without)

    def host(self) -> Host:
        """The adapter, imported now. Raises what the WebUI's own modules raise."""
        module, _, name = self.adapter.partition(":")
        host: Host = getattr(importlib.import_module(module), name)()
        return host


def by_name() -> dict[str, WebUI]:
    """The WebUIs by the names of their folders, which are those of their hosts. Imports no package from elsewhere."""
    hosts = importlib.import_module(__package__)
    folders = sorted(info.name for info in pkgutil.iter_modules(hosts.__path__) if info.ispkg)
    found = {name: getattr(importlib.import_module(f"{__package__}.{name}"), "WEBUI", None) for name in folders}
    return {name: webui for name, webui in found.items() if webui is not None}
