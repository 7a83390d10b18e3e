"""The loan of a base that its host moves between processor and GPU: between turns nothing of it is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atelier.hosts.webui.borrowed import Borrowed
from atelier.hosts.webui.lease import WebUILease


class ForgeBorrowed(Borrowed):
    """Views that can be emptied for a while: a host that moves its model would not get the old memory back."""

    def rest(self) -> None:
        """Empties the views; `follow` fills them again."""
        self.let_go()
        self._addresses = ()


class ForgeLease(WebUILease):
    """A lease that rests between turns on a GPU. On a processor nothing moves, and the views stay."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """See `WebUILease.turn`."""
        with super().turn():
            try:
                yield
            finally:
                borrowed = self._borrowed
                if isinstance(borrowed, ForgeBorrowed) and borrowed.parts.device.type != "cpu":
                    borrowed.rest()
