"""The line in a WebUI's console with Atelier's version, which every bug report needs."""

from __future__ import annotations

import logging
from functools import cache

from atelier import __version__
from atelier.hosts.contract import Host
from atelier.hosts.webui import by_name

log = logging.getLogger(__name__)


def start_line(host: Host | None) -> str:
    """ "[Atelier] 0.1.0, for AUTOMATIC1111 v1.10.1". Without a host nothing can be trained, and the tab says why."""
    if host is None:
        return f"[Atelier] {__version__}: nothing can be trained here yet, and the tab says why."
    return f"[Atelier] {__version__}, for {title_of(host)}".rstrip()


def title_of(host: Host) -> str:
    """The name of a WebUI and its version, as far as it knows that itself."""
    try:
        version = host.version
    except Exception as error:  # noqa: BLE001 - the WebUI's own code, which may need git
        log.debug("the version of %s is not known: %s", host.name, error)
        version = ""
    webui = by_name().get(host.name)
    return f"{webui.title if webui else host.name} {version}".rstrip()


@cache
def say_once(line: str) -> None:
    """Prints a line, and nothing when it was printed before in this process: a WebUI may build its page many times.

    Printed, as an extension leaves the WebUI's loggers as they are, and most show no line that is only for information.
    """
    print(line, flush=True)
