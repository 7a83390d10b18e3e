"""What a case is, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atelier.bench.gpu import cases as folder
from atelier.bench.gpu.machine import Machine
from atelier.config.discovery import offered


@dataclass(frozen=True)
class Found:
    """What a case has seen. `passed` None: nothing was to be proved, there are only figures."""

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
    """What is to be proved, as a sentence."""
    order: int
    """The most telling come first."""
    seconds: float
    """What it takes on a fast GPU, about: a case for which the time is short is left out."""
    run: Callable[[Machine], Found]


def all_cases() -> list[Case]:
    """In the order in which they are worth running."""
    return sorted(offered(folder, "CASE"), key=lambda case: case.order)
