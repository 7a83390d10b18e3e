"""Ways of needing less memory that a run can still take when it has run out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class Savers:
    """What was turned on since the run began, in the order of their cost. `notes` tells the person."""

    gradient_checkpointing: bool = False
    notes: list[str] = field(default_factory=list)

    def take_next(self) -> bool:
        """Turns on the next saver; False when there is none left."""
        if self.gradient_checkpointing:
            return False
        self.gradient_checkpointing = True
        self.notes.append("gradient checkpointing is now on, which needs much less memory and is a third slower.")
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch says that a device's memory is full."""
    kinds: tuple[type[BaseException], ...] = (torch.cuda.OutOfMemoryError, MemoryError)
    if isinstance(error, kinds):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
