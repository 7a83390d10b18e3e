"""Memory savings of a run: which are on, which can still be turned on, and how they are kept over a restart."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from atelier.config.files.durable import put_in_place

FILE = "savers.json"
"""The file in the folder of a run's record."""


@dataclass
class MemorySavings:
    """The savings that were turned on since the run started, in the order of their cost. `notes` are for the person.

    `largest_batch`: into how many micro-batches a batch can be split. `can_rest`: True when text encoders and VAE are
    the run's own copies and can be moved from the device to CPU memory.
    """

    text_and_vae_off: bool = False
    gradient_checkpointing: bool = False
    micro_batches: int = 1
    """Number of parts in which a batch is computed, one after the other. Their gradients are added up."""
    optimizer: str = ""
    """The optimizer to use instead of the setting; "" uses the setting."""
    notes: list[str] = field(default_factory=list)
    largest_batch: int = 1
    can_rest: bool = False
    streamed: bool = False
    """The UNet is in CPU memory, and each block is copied to the device when it computes."""
    fp8: bool = False
    """When streamed, the blocks are kept on the device as float8 instead."""
    can_stream: bool = False
    planned: bool = False
    known: bool = False
    """True when the savings are written in the run's folder, so that no new plan is made."""

    def take_next(self) -> bool:
        """Turns on the next saving that is possible during a run; False when none is left."""
        if self.can_rest and not self.text_and_vae_off:
            self.text_and_vae_off = True
            self.notes.append("text encoder and VAE are now kept in CPU memory while they are not needed.")
        elif not self.gradient_checkpointing:
            self.gradient_checkpointing = True
            self.notes.append("gradient checkpointing is now on. It needs much less memory and is a third slower.")
        elif self.micro_batches < self.largest_batch:
            self.micro_batches = min(2 * self.micro_batches, self.largest_batch)
            self.notes.append(
                f"a batch is now computed in {self.micro_batches} parts, one after the other. Their gradients are "
                "added up."
            )
        elif self.can_stream and not self.streamed:
            self.streamed = True
            self.notes.append("the UNet is now kept in CPU memory. Each block is copied to the GPU when it computes.")
        else:
            return False
        return True

    def keep(self, folder: Path) -> None:
        """Writes the savings into the run's folder, so that a resumed run computes as before.

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
        """Reads what `keep` wrote; False when there is no such file."""
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
"""Fields that are kept over a restart, with their keys in the file. The keys are those of version 0.1.0."""
