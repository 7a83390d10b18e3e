"""The loan of a base that its host moves between CPU and GPU: nothing of it is held while the host may do so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atelier.hosts.shared.lease import WebUILease, is_awaited, is_taken

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed


class RestingLease(WebUILease):
    """A lease whose views rest while somebody else has the queue. On a CPU nothing moves, and they stay.

    Held, a view keeps memory on the GPU that the WebUI means to free. To fill all views again takes tens of
    milliseconds of the CPU's time, too much for every step: they rest when somebody waits at the end of a turn, or has
    come since.
    """

    @contextmanager
    def turn(self) -> Iterator[None]:
        """As any lease's. The views rest while it waits for the queue."""
        if self._borrowed is not None and is_taken(self._host.queue()):
            _rest(self._borrowed)
        with super().turn():
            yield

    def _before_bringing(self, borrowed: Borrowed) -> None:
        if borrowed.moved():  # or the old memory would lie on the device beside the new
            _rest(borrowed)

    def _end_turn(self, borrowed: Borrowed) -> None:
        if is_awaited(self._host.queue(), unless_told=True):
            _rest(borrowed)


def _rest(borrowed: Borrowed) -> None:
    if borrowed.parts.device.type != "cpu":
        borrowed.rest()
