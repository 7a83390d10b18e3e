"""The runs of this process: made once, whatever the WebUI builds anew."""

from __future__ import annotations

import atexit
import threading

from atelier.hosts.contract import Host
from atelier.hosts.powers import before_end
from atelier.jobs.carry_out import Train
from atelier.jobs.queue import Jobs

_CURRENT: dict[str, Jobs] = {}
_CURRENT_LOCK = threading.Lock()
"""Guards `_CURRENT`, our only global state: a WebUI that reloads its page runs our script again and needs its runs."""


def current(host: Host, train: Train | None = None) -> Jobs:
    """The runs of this process's host: the same object, however often the page is built."""
    with _CURRENT_LOCK:
        if host.name not in _CURRENT:
            _CURRENT[host.name] = jobs = Jobs(host, train)
            atexit.register(jobs.close, 30.0)
            before_end(host, jobs.close)
        return _CURRENT[host.name]
