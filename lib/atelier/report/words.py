"""Finds and replaces private words and phrases in a text, in any form in which they occur."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORT = 5
"""Letters from which on a word is also found inside a longer one: "jane_doe" in "jane_doe2"."""
WINDOW = 3
"""So many words in a row of a longer phrase count as that phrase: a message may show a part of a prompt."""
_WORD = re.compile(r"[^\W_]+")
_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"


class PrivateWords:
    """What must not be told, and what is put in its place."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}
        self._windows: dict[tuple[str, ...], str] = {}
        self._pattern: re.Pattern[str] | None = None

    def add_word(self, word: str, instead: str) -> None:
        """`word` is found in any case, with slashes of either kind, and with any space where it has one."""
        plain = _plain(word)
        if plain and plain not in self._words:
            self._words[plain] = instead
            self._pattern = None

    def add_phrase(self, text: str, instead: str) -> None:
        """Each line of `text` is found whatever stands between its words, and so is a part of it."""
        for line in text.splitlines():
            words = tuple(word.lower() for word in _WORD.findall(line))
            for start in range(max(1, len(words) - WINDOW + 1)):
                if window := words[start : start + WINDOW]:
                    self._windows.setdefault(window, instead)

    def without(self, text: str) -> str:
        """The text with every private word and phrase replaced."""
        return self._without_words(self._without_phrases(text))

    def _without_words(self, text: str) -> str:
        if not self._words:
            return text
        if self._pattern is None:
            self._pattern = re.compile("|".join(map(_form, _longest_first(self._words))), re.IGNORECASE)
        return self._pattern.sub(lambda match: self._words[_plain(match[0])], text)

    def _without_phrases(self, text: str) -> str:
        found = list(_WORD.finditer(text))
        words = [match[0].lower() for match in found]
        spans: list[tuple[int, int, str]] = []
        for start in range(len(words)):
            for length in range(1, WINDOW + 1):
                instead = self._windows.get(tuple(words[start : start + length]))
                if instead is None or start + length > len(words):
                    continue
                begin, end = found[start].start(), found[start + length - 1].end()
                if spans and begin <= spans[-1][1]:
                    spans[-1] = (spans[-1][0], max(end, spans[-1][1]), spans[-1][2])
                else:
                    spans.append((begin, end, instead))
        for begin, end, instead in reversed(spans):
            text = f"{text[:begin]}{instead}{text[end:]}"
        return text


def _plain(word: str) -> str:
    """The one form of a word's many: lower case, single slashes and spaces."""
    return re.sub(r"\s+", " ", re.sub(r"[\\/]+", "/", word)).strip().lower()


def _form(word: str) -> str:
    """A pattern for all of a word's forms."""
    free = {"/": r"[\\/]+", " ": r"\s+"}
    pattern = "".join(free.get(part) or re.escape(part) for part in re.split("([/ ])", word))
    return f"{_BEFORE}{pattern}{_AFTER}" if len(word) < SHORT else pattern


def _longest_first(words: Iterable[str]) -> list[str]:
    return sorted(words, key=len, reverse=True)
