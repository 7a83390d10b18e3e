"""Values from files and command lines, brought to a setting's kind."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from atelier.config.option import Option

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0", ""}
_KIND_NAMES = {
    "bool": "it must be true or false",
    "int": "it must be a whole number",
    "float": "it must be a number",
    "int_or_float": "it must be a number",
    "str": "it must be text",
    "floats": "it must be a number or a list of numbers",
    "strs": "it must be text or a list of texts",
}


class BadValue(ValueError):
    """Its text says what is allowed."""


def coerce(option: Option, value: Any, from_text: bool = False) -> Any:
    """`value` as the option's kind wants it; with `from_text` numbers and flags may be written as text.

    An empty text leaves an optional setting unset. Raises `BadValue`.
    """
    if value is None or (isinstance(value, str) and option.optional and not value.strip()):
        if option.optional:
            return None
        raise BadValue("it must be set")
    try:
        return _CONVERT[option.kind](value, from_text)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValue(_KIND_NAMES[option.kind]) from error


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key that `key` was most likely meant to be."""
    found = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _bool(value: Any, from_text: bool) -> bool:
    if isinstance(value, bool):
        return value
    if from_text and isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
    if from_text and value in (0, 1):
        return bool(value)
    raise ValueError(value)


def _int(value: Any, from_text: bool) -> int:
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(value, str):
        if not from_text:
            raise ValueError(value)
        value = float(value) if "." in value or "e" in value.lower() else int(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(value)
        return int(value)
    return int(value)


def _float(value: Any, from_text: bool) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and not from_text):
        raise ValueError(value)
    return float(value)


def _int_or_float(value: Any, from_text: bool) -> int | float:
    if isinstance(value, str) and from_text:
        text = value.strip()
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(value)
    return value


def _str(value: Any, from_text: bool) -> str:
    if isinstance(value, bool) or isinstance(value, dict):
        raise ValueError(value)
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def _floats(value: Any, from_text: bool) -> list[float]:
    if isinstance(value, str) and from_text:
        value = value.replace(",", " ").split()
    items = value if isinstance(value, (list, tuple)) else [value]
    return [_float(item, from_text or isinstance(item, str)) for item in items]


def _strs(value: Any, from_text: bool) -> list[str]:
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()] if "\n" in value else value.split()
    if isinstance(value, (list, tuple)):
        return [_str(item, from_text) for item in value]
    return [_str(value, from_text)]


_CONVERT = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "int_or_float": _int_or_float,
    "str": _str,
    "floats": _floats,
    "strs": _strs,
}
