"""Lists of key=value, as network_args and optimizer_args have them, from every way in which people write them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

ARGUMENTS = ("network_args", "optimizer_args", "lr_scheduler_args")
"""Settings that are lists of key=value."""

_NEXT_KEY = re.compile(r"[,;]\s*[\"']?[A-Za-z_][\w.]*[\"']?\s*=")
"""A comma or semicolon with another key after it."""
_ARGUMENT = re.compile(r"[A-Za-z_][\w.]*=", re.ASCII)
_TYPOGRAPHIC = str.maketrans(dict.fromkeys("“”„‟＂", '"'))
"""Quotation marks that word processors and chats make of the plain one."""
_BEFORE, _AFTER = re.compile(r"(?<=\S)\s+="), re.compile(r"=\s+(?=[^\s=]+(?:\s|$))")
"""White space before an equals sign, and after one that has its value behind it."""


def split_arguments(texts: Iterable[str]) -> list[str]:
    """["a=1 b=2", "betas=0.9,", "0.99", '"c=3" "d"="e f"'] -> ["a=1", "b=2", "betas=0.9,0.99", "c=3", "d=e f"].

    A text without quotation marks that has one key=value is kept as it is written. Another is split as in a shell, and
    a piece without "=" continues the argument before it.
    """
    found: list[list[str]] = []
    """For each argument, the pieces that it is joined from."""
    for text in texts:
        text = text.strip().translate(_TYPOGRAPHIC).replace('\\"', '"').replace("\\'", "'")
        text = _whole_unquoted(text)
        if text.count("=") == 1 and not _has_quotes(text):
            key, _, value = text.partition("=")
            found.append([f"{key.strip()}={value.strip()}"])
            continue
        if not _has_quotes(text):
            text = _AFTER.sub("=", _BEFORE.sub("=", text))
        for piece in _pieces(text):
            if "=" in piece or not found:
                key, equals, value = piece.partition("=")
                found.append([f"{key.strip()}{equals}{value.strip()}"])
            else:
                found[-1].append(piece)
    return [text for text in map("".join, found) if text]


def from_table(table: Mapping[str, Any]) -> list[str]:
    """{"weight_decay": 0.02, "betas": [0.9, 0.95]} -> ["weight_decay=0.02", "betas=0.9,0.95"]."""
    return [
        f"{key}={','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
        for key, value in table.items()
    ]


def comma_problem(argument: str) -> str | None:
    """What is wrong with the commas of one argument, as a clause; None when they belong to its value."""
    key, equals, value = argument.partition("=")
    outside = _without_brackets(value).rstrip()
    between = _NEXT_KEY.search(outside)
    sign = between[0][0] if between else outside[-1:]
    if equals and sign in (",", ";"):
        name = "comma" if sign == "," else "semicolon"
        return f"there is a {name} after the value of {key}; put each KEY=VALUE on a line of its own, without {name}s"
    return None


def is_argument(text: str) -> bool:
    """True for KEY=VALUE with a key that a program can have."""
    return _ARGUMENT.match(text) is not None


def listed(text: str) -> list[Any] | None:
    """The items of a list that is written as text, as Python or JSON write it: '["a", "b"]'; None for other texts."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        items = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return items if isinstance(items, list) else None


def unquoted(text: str) -> str:
    """`text` without the quotation marks around it."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _whole_unquoted(text: str) -> str:
    """Without the marks around the whole text, if these are a pair: not for '"a=1" "b=2"'."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    return text


def _has_quotes(text: str) -> bool:
    return '"' in text or "'" in text


def _pieces(text: str) -> list[str]:
    """Pieces between white space, with their quotation marks taken off. A mark only counts where a piece, key or value
    begins, so that an apostrophe in a path is a letter; white space between marks is kept."""
    pieces: list[str] = []
    piece, quote = "", ""
    for place, letter in enumerate(text):
        if quote:
            if letter == quote:
                quote = ""
            else:
                piece += letter
        elif letter in "\"'" and (not piece or piece.endswith("=")) and letter in text[place + 1 :]:
            quote = letter
        elif letter in "\"'" and not piece:
            continue
        elif letter.isspace():
            pieces.append(piece)
            piece = ""
        else:
            piece += letter
    # A mark that was never opened, as at the end of  a=1".
    return [cleaned for cleaned in (each.strip('"') for each in [*pieces, piece]) if cleaned]


def _without_brackets(text: str) -> str:
    """The text with what stands in brackets left out."""
    kept, depth = "", 0
    for letter in text:
        depth += letter in "([{"
        if depth <= 0:
            kept += letter
        depth -= letter in ")]}" and depth > 0
    return kept
