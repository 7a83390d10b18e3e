"""A turn for long work, which lets the WebUI use its model in between."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

import torch

from atelier.hosts.contract import Lease


class LongTurn:
    """A turn that can be interrupted: `with LongTurn(lease) as turn: …; turn.breathe(); …`."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._turn: AbstractContextManager[None] | None = None

    def __enter__(self) -> LongTurn:
        self._begin()
        return self

    def breathe(self) -> None:
        """Lets the host use its model, then takes the turn again. Raises `BaseGone` as entering does.

        A turn starts with gradients on. Where they were off they stay off; otherwise a picture would keep the results
        of all its steps until it is finished.
        """
        learning = torch.is_grad_enabled()
        self._end(None, None, None)
        self._begin()
        torch.set_grad_enabled(learning)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(kind, error, trace)

    def _begin(self) -> None:
        turn = self._lease.turn()
        turn.__enter__()
        self._turn = turn

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.__exit__(kind, error, trace)
