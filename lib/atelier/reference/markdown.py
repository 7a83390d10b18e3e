"""Tables and texts in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table. Cells are Markdown already."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def escaped(text: str) -> str:
    """Plain text as Markdown shows it, also inside a table."""
    return re.sub(r"([\\|<*`\[\]])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """A span of code, also inside a table."""
    return f"`{text.replace('|', chr(92) + '|')}`"
