"""The loan of a base that its host moves between processor and GPU: between turns nothing of it is held."""

from __future__ import annotations

from atelier.hosts.webui.borrowed import Borrowed
from atelier.hosts.webui.lease import WebUILease


class ForgeLease(WebUILease):
    """A lease that rests between turns on a GPU. On a processor nothing moves, and the views stay."""

    def _end_turn(self, borrowed: Borrowed) -> None:
        if borrowed.parts.device.type != "cpu":
            borrowed.rest()
