"""Errors that are written for the person in the tab: what, where, what to do."""

from __future__ import annotations


class AtelierError(Exception):
    """Something the user can act on. Its text is one or more plain sentences; a traceback belongs in the log."""


class SettingsError(AtelierError):
    """One or more settings are wrong. `problems` holds a `Problem` for each."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


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
        return f"{place}{self.key} is {self.value!r}; {self.allowed}"
