"""Errors for the person at the tab or the command line: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

from atelier.config.settings.schema import labelled


class AtelierError(Exception):
    """Something the user can act on. Its text is one or more plain sentences; a traceback belongs in the log."""


class FieldError(AtelierError):
    """Something the user can act on in one setting, `key`, in a sentence of its own."""

    def __init__(self, text: str, key: str) -> None:
        super().__init__(text)
        self.key = key


MOST_PROBLEMS = 30
"""Problems that one message lists."""
SHOWN = 200
"""Characters of a wrong value that are shown."""


class SettingsError(AtelierError):
    """One or more settings are wrong. `problems` holds a `Problem` for each; the message lists the first of many."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        rest = len(problems) - MOST_PROBLEMS
        more = [f"and {rest} more problems."] if rest > 0 else []
        super().__init__("\n".join([*map(str, problems[:MOST_PROBLEMS]), *more]))


class Problem:
    """What is wrong with one setting, as a sentence for people.

    `allowed` is a clause that says what would be right, such as "it must be at most 10". `source` is the name of the
    file that sets the value, or None; `line` counts from 1. A problem in a file names the key as the file does, any
    other names the setting as the tab labels it, with the key in brackets.
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
        name = shortened(self.key if self.source else labelled(self.key))
        empty = self.value is None or self.value == ""
        verdict = f"{name}: {self.allowed}" if empty else f"{name} is {shortened(repr(self.value))}; {self.allowed}"
        return f"{place}{verdict}" if verdict.endswith((".", "?", "!")) else f"{place}{verdict}."


def few(names: Iterable[object], most: int = 3) -> str:
    """The first names of a list that may be long, and how many more there are: "a, b, c and 12 more"."""
    texts = [shortened(str(name)) for name in names]
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


def shortened(text: str) -> str:
    """`text`, or the beginning and the end of a long one."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} … {text[-SHOWN // 4 :]}"
