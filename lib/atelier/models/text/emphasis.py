"""Emphasis in captions, as in AUTOMATIC1111 and kohya's `weighted_captions`.

(word) has the weight 1.1, [word] 1/1.1, (word:1.3) 1.3. Nested weights are multiplied. A backslash makes a bracket
literal. A round bracket that is never closed reaches to the end.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\[()\[\]\\]|\(|\[|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|\)|\]|[^\\()\[\]:]+|[\\:]")

ROUND = 1.1
SQUARE = 1 / 1.1


def parse_emphasis(caption: str) -> list[tuple[str, float]]:
    """The parts of the caption in order, each with its weight. Neighbours of equal weight are one part."""
    pieces: list[tuple[str, float]] = []
    open_brackets: list[tuple[str, int]] = []

    def multiply(start: int, factor: float) -> None:
        pieces[start:] = [(text, weight * factor) for text, weight in pieces[start:]]

    for match in _TOKEN.finditer(caption):
        token = match[0]
        if token in "([":
            open_brackets.append((token, len(pieces)))
        elif match[1] is not None and _innermost(open_brackets) == "(":
            multiply(open_brackets.pop()[1], float(match[1]))
        elif token == ")" and _innermost(open_brackets) == "(":
            multiply(open_brackets.pop()[1], ROUND)
        elif token == "]" and _innermost(open_brackets) == "[":
            multiply(open_brackets.pop()[1], SQUARE)
        else:
            escaped = len(token) == 2 and token[0] == "\\"
            pieces.append((token[1] if escaped else token, 1.0))
    for bracket, start in reversed(open_brackets):
        multiply(start, ROUND if bracket == "(" else SQUARE)
    return _merged(pieces)


def _innermost(open_brackets: list[tuple[str, int]]) -> str:
    return open_brackets[-1][0] if open_brackets else ""


def _merged(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    merged: list[tuple[str, float]] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged
