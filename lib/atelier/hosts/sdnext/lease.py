"""The loan of a base that SD.Next offloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from atelier.hosts.sdnext.queue import others_wait
from atelier.hosts.shared.lease import Base, WebUILease

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed


class OffloadedBase(Base, Protocol):
    """A base whose offloading is taken out for turns."""

    @property
    def holds_offload(self) -> bool:
        """True while the model is elsewhere than SD.Next would have it."""
        ...


class SDNextLease(WebUILease):
    """A lease that gives offloading back when somebody on the page waits to draw, and takes it out after that."""

    def __init__(self, host: OffloadedBase, parts: frozenset[str]) -> None:
        super().__init__(host, parts)
        self._offloaded = host

    def _end_turn(self, borrowed: Borrowed) -> None:
        if self._offloaded.holds_offload and others_wait():
            borrowed.rest()
            self._offloaded.restore_placement()
