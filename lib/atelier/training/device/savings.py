"""Ways of needing less memory: which are on, which can still be taken, and how they outlast a restart."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from atelier.config.files.durable import put_in_place

FILE = "savers.json"
"""In the folder of a run's record."""


@dataclass
class MemorySavings:
    """What was turned on since the run began, in the order of their cost. `notes` tells the person.

    `largest_batch` and `can_rest` say what is possible: into how many micro-batches a batch can be cut, and whether
    text encoders and VAE are the run's own, beside a device that they can leave.
    """

    text_and_vae_off: bool = False
    gradient_checkpointing: bool = False
    micro_batches: int = 1
    """A batch is computed in so many parts, one after the other; their gradients add up to the batch's."""
    optimizer: str = ""
    """The optimiser to use in place of the one that was asked for; "" for none."""
    notes: list[str] = field(default_factory=list)
    largest_batch: int = 1
    can_rest: bool = False
    streamed: bool = False
    """The UNet rests in the processor's memory, its blocks come to the device as they compute."""
    fp8: bool = False
    """If they are streamed, they are kept on the device as float8 instead."""
    can_stream: bool = False
    planned: bool = False
    known: bool = False
    """They lie in the run's folder, and are not to be planned."""

    def take_next(self) -> bool:
        """Turns on the next saver that can be applied in mid-run; False when there is none left."""
        if self.can_rest and not self.text_and_vae_off:
            self.text_and_vae_off = True
            self.notes.append("text encoder and VAE now rest in the processor's memory while they are not needed.")
        elif not self.gradient_checkpointing:
            self.gradient_checkpointing = True
            self.notes.append("gradient checkpointing is now on, which needs much less memory and is a third slower.")
        elif self.micro_batches < self.largest_batch:
            self.micro_batches = min(2 * self.micro_batches, self.largest_batch)
            self.notes.append(
                f"a batch is now computed in {self.micro_batches} parts, one after the other, whose gradients "
                "are added up."
            )
        elif self.can_stream and not self.streamed:
            self.streamed = True
            self.notes.append("the UNet now rests in the processor's memory; its blocks come as they compute.")
        else:
            return False
        return True

    def keep(self, folder: Path) -> None:
        """Writes them into the run's folder: a run that goes on after a restart computes as before.

        Raises `OSError` when the disk is full.
        """
        kept = {key: getattr(self, name) for name, key in _KEPT.items()}
        temporary = folder / f".{FILE}.{os.getpid()}.tmp"
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(json.dumps(kept))
                file.flush()
                os.fsync(file.fileno())
            put_in_place(temporary, folder / FILE)
        finally:
            temporary.unlink(missing_ok=True)
        self.known = True

    def recall(self, folder: Path) -> bool:
        """Takes what `keep` wrote; False when there is nothing of the kind."""
        try:
            kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
            values = {name: type(getattr(self, name))(kept[key]) for name, key in _KEPT.items()}
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return False
        for name, value in values.items():
            setattr(self, name, value)
        self.known = True
        return True


_KEPT = {
    "text_and_vae_off": "text_and_vae_off",
    "gradient_checkpointing": "gradient_checkpointing",
    "micro_batches": "pieces",
    "optimizer": "optimizer",
    "streamed": "streamed",
    "fp8": "fp8",
}
"""What outlasts a restart, and its key in the file, whose names are those of 0.1.0."""
