"""The type of a GPU case, and the list of all cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atelier.bench.gpu import cases as folder
from atelier.bench.gpu.machine import Machine
from atelier.config.discovery import offered


@dataclass(frozen=True)
class Found:
    """The result of a case. `passed` None: there was nothing to prove, only figures."""

    passed: bool | None
    says: str
    """One line for the table."""
    figures: Mapping[str, Any]
    """Everything, as JSON takes it."""


class LeftOut(Exception):
    """Raised by a case that cannot be run here; its words say why."""


@dataclass(frozen=True)
class Case:
    """One question to the device."""

    name: str
    asks: str
    """The claim to check, as a sentence."""
    order: int
    """The most telling come first."""
    seconds: float
    """Its duration on a fast GPU, roughly. A case is left out when there is less time left."""
    run: Callable[[Machine], Found]


def all_cases() -> list[Case]:
    """In the order in which they are worth running."""
    return sorted(offered(folder, "CASE"), key=lambda case: case.order)
