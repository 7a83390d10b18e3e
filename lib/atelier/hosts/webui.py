"""How a WebUI is told from others: each folder of an adapter offers a `WEBUI`, and nothing else lists them."""

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
    """A WebUI that has an adapter. To describe it imports neither the adapter nor the WebUI."""

    title: str
    """What people call it."""
    adapter: str
    """The class that implements `contract.Host`, as "module:Class". It takes no arguments."""
    needs: tuple[str, ...]
    """Modules that it has, all of them."""
    without: tuple[str, ...] = ()
    """Modules that it does not have: those that tell it from a WebUI that was made from it."""

    def is_here(self, has: Callable[[str], bool]) -> bool:
        """True when this is the WebUI whose modules `has` tells of."""
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
