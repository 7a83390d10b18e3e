"""The interfaces of the trainer to its caller: a record to write to, and requests to follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image


class RunRecord(Protocol):
    """The record of one run. Writing to it never raises."""

    folder: Path

    def status(self, state: str, message: str = "") -> None:
        """ "preparing", "running", "paused", "waiting", "done", "stopped" or "failed", and a sentence about it."""

    def activity(self, text: str = "", done: int | None = None, total: int | None = None) -> None:
        """What goes on now beside the steps; "" ends it. `done` of `total`, where it can be counted."""

    def event(self, kind: str, **data: Any) -> Any: ...

    def message(self, text: str, level: str = "info") -> Any: ...

    def progress(
        self, step: int, total: int, epoch: int, epochs: int, seconds_per_step: float, eta: float, memory: int
    ) -> None: ...

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None: ...

    def validation(self, step: int, loss: float) -> None: ...

    def sample(self, step: int, index: int, prompt: str, image: Image.Image) -> Any: ...

    def saved(self, path: Path, step: int, epoch: int, kind: str) -> None: ...

    def saved_files(self) -> list[tuple[Path, int, int, str]]:
        """All files noted by `saved`, also before a restart."""
        ...

    def log(self, text: str) -> None: ...


class RunControl(Protocol):
    """Requests of the person at the page, read between steps."""

    @property
    def stopping(self) -> bool: ...

    @property
    def hurried(self) -> bool:
        """True when the run shall end without drawing its last samples."""
        ...

    @property
    def paused(self) -> bool: ...

    def take_save(self) -> bool:
        """True once for each request to save."""
        ...

    def take_sample(self) -> bool:
        """True once for each request for sample pictures."""
        ...

    def wait_while_paused(self, timeout: float | None = None) -> None:
        """Returns when pause or stop changes, or after `timeout` seconds."""
        ...

    def wait_for_request(self, timeout: float) -> None:
        """Returns when anything is asked, or after `timeout` seconds."""
        ...
