"""Errors that are written for the person in the tab: what, where, what to do."""

from __future__ import annotations


class AtelierError(Exception):
    """Something the user can act on. Its text is one or more plain sentences; a traceback belongs in the log."""


TOLD = 30
"""Problems that one message tells."""
SHOWN = 200
"""Letters of a wrong value that are shown."""


class SettingsError(AtelierError):
    """One or more settings are wrong. `problems` holds a `Problem` for each; the text tells the first of many."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        more = [f"and {len(problems) - TOLD} more problems."] if len(problems) > TOLD else []
        super().__init__("\n".join([*map(str, problems[:TOLD]), *more]))


class Problem:
    """What is wrong with one setting: its key, its value, what is allowed, and for a file its place.

    `source` is a file name or None; `line` counts from 1.
    """

    def __init__(
        self, key: str, value: object, allowed: str, source: str | None = None, line: int | None = None
    ) -> None:
        self.key = key
        self.value = value
        self.allowed = allowed
        self.source = source
        self.line = line

    def __str__(self) -> str:
        place = f"{self.source}, line {self.line}: " if self.source and self.line else ""
        place = place or (f"{self.source}: " if self.source else "")
        return f"{place}{shortened(self.key)} is {shortened(repr(self.value))}; {self.allowed}"


def shortened(text: str) -> str:
    """A long text's beginning and end."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} … {text[-SHOWN // 4 :]}"
