"""Converts values from files and command lines to the type of a setting.

Numbers and flags may come as text, since GUI presets and quoted TOML hold them so. A text that cannot be converted is
refused with a sentence.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from atelier.config.settings.option import Option

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


def coerce(option: Option, value: Any) -> Any:
    """`value` converted to the option's kind. Raises `BadValue`.

    An empty text leaves an optional setting unset, and so does 0 where the least value is 1: kohya's way of saying
    "never". A list with one entry stands for that entry.
    """
    if isinstance(value, (list, tuple)) and len(value) == 1 and option.kind not in ("strs", "floats"):
        value = value[0]
    if value is None or (isinstance(value, str) and option.optional and not value.strip()):
        if option.optional:
            return None
        raise BadValue("it must be set")
    try:
        if option.kind == "strs":
            texts = _strs(value)
            return split_arguments(texts) if option.key in ARGUMENTS else _paths(value, texts)
        found = _CONVERT[option.kind](value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValue(_KIND_NAMES[option.kind]) from error
    if found == 0 and option.optional and option.minimum == 1:
        return None
    return found


ARGUMENTS = ("network_args", "optimizer_args", "lr_scheduler_args")
"""Settings that are lists of key=value."""


def split_arguments(texts: Iterable[str]) -> list[str]:
    """["a=1 b=2", "betas=0.9,", "0.99", '"c"="d"'] -> ["a=1", "b=2", "betas=0.9,0.99", "c=d"].

    A text with one key=value is kept as it is written. A text with several is split, and a piece without "="
    continues the argument before it.
    """
    found: list[list[str]] = []
    """For each argument, the pieces that it is joined from."""
    for text in texts:
        text = _unquoted(text.strip())
        if text.count("=") == 1 and "=" in text:
            key, _, value = text.partition("=")
            found.append([f"{_unquoted(key.strip())}={_unquoted(value.strip())}"])
            continue
        for piece in text.split():
            if "=" in piece or not found:
                key, equals, value = piece.partition("=")
                found.append([f"{_unquoted(key)}{equals}{_unquoted(value)}"])
            else:
                found[-1].append(piece.strip("\"'"))
    return [text for text in map("".join, found) if text]


SECRETS = ("wandb_api_key", "huggingface_token")
"""Keys of kohya's programs whose values are passwords."""
HIDDEN = "(hidden)"
_ON_A_COMMAND_LINE = re.compile(rf"(--(?:{'|'.join(SECRETS)})[=\s]+)(\"[^\"]*\"|'[^']*'|\S+)")


def without_secrets(text: str) -> str:
    """A command line with the passwords in it left out."""
    return _ON_A_COMMAND_LINE.sub(rf"\1{HIDDEN}", text)


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key that is most similar to `key`, for "did you mean …?"; None when none is similar."""
    return _nearest(key, tuple(known))


@lru_cache(maxsize=4096)
def _nearest(key: str, known: tuple[str, ...]) -> str | None:
    lowered = {name.lower(): name for name in known}
    found = difflib.get_close_matches(key.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dates and the like become text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
    elif value in (0, 1):
        return bool(value)
    raise ValueError(value)


def _int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(value)
        return int(value)
    if not isinstance(value, int):
        raise ValueError(value)
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(value)


def _int_or_float(value: Any) -> int | float:
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(value)
    return value


def _str(value: Any) -> str:
    if isinstance(value, (bool, dict)):
        raise ValueError(value)
    if isinstance(value, (list, tuple)):
        return ",".join(_str(item) for item in value)
    return str(value)


def _floats(value: Any) -> list[float]:
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    items = value if isinstance(value, (list, tuple)) else [value]
    return [_float(item) for item in items]


def _strs(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.splitlines()
    items = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in (_str(item).strip() for item in items) if text]


def _paths(value: Any, found: list[str]) -> list[str]:
    """One line of text may hold several files, as on a command line; a file that is there may have spaces in it."""
    if not isinstance(value, str) or len(found) != 1 or " " not in found[0]:
        return found
    if found[0].count(".safetensors") == 1 and '"' not in found[0]:
        return found
    try:
        return [_unquoted(piece) for piece in shlex.split(found[0], posix=False)]
    except ValueError:
        return found


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "int_or_float": _int_or_float,
    "str": _str,
    "floats": _floats,
}
