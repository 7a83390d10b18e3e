"""The embedded host's loaded model, and the interfaces between the host and those who use its model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from atelier.hosts.embedded.folders import DataFolder
from atelier.hosts.embedded.queue_lock import QueueLock
from atelier.models.family import Parts


@dataclass(frozen=True)
class LoadedModel:
    """The model in memory. Another object after every load, also of the same file."""

    title: str
    path: Path
    identity: str
    parts: Parts
    side: int
    """The side in pixels that it draws best."""


class Borrower(Protocol):
    """Somebody with views of the model."""

    def let_go(self) -> None:
        """Empties the views. Called inside the queue, before another checkpoint is loaded."""
        ...


class Lender(Protocol):
    """What drawing and lending need from the host. Everything but `folders` is used inside `queue`."""

    folders: DataFolder
    device: torch.device
    queue: QueueLock
    current: LoadedModel | None
    leases: list[Borrower]

    def send_unet_to_rest(self) -> bool: ...

    def load_denoiser(self) -> bool: ...
