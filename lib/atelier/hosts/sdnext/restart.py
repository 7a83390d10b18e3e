"""Saves a running job before SD.Next's "Restart server", which replaces the process without Python's `atexit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PATIENCE = 8.0
"""Seconds that a run has to keep its state: the page of SD.Next asks for the new server 10 seconds after the click."""


def before_restart(end: Callable[[float], None]) -> None:
    """Has `end(seconds)` called before SD.Next shuts its server down, from the button and after changes of extensions.

    A moment later SD.Next forgets its modules, torch among them, while threads still run: a step cannot end any more.
    """
    from modules import shared

    usual = shared.restart_server

    def restart_server(*arguments: Any, **named: Any) -> Any:
        if getattr(shared, "demo", None) is not None:  # without a page SD.Next does nothing, and goes on
            end(PATIENCE)
        return usual(*arguments, **named)

    shared.restart_server = restart_server
