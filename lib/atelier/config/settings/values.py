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

from atelier.config.files.paths import exists
from atelier.config.settings.arguments import (
    ARGUMENTS,
    comma_problem,
    from_table,
    is_argument,
    listed,
    split_arguments,
    unquoted,
)
from atelier.config.settings.option import Option

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0", "", "none", "null"}
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

    A value that says "not set" (`says_nothing`) gives None for an optional setting, an empty list, or the default. So
    does 0 where the least value is 1: kohya's way of saying "never". A list with one entry stands for that entry.
    """
    if isinstance(value, (list, tuple)) and len(value) == 1 and option.kind not in LISTS:
        value = value[0]
    if says_nothing(option, value):
        if value is None and not option.optional and option.kind not in LISTS:
            raise BadValue("it must be set")
        return [] if option.kind in LISTS else None if option.optional else option.default
    if value is False and option.kind in ("int", "float", "int_or_float"):
        value = 0  # as it counts in sd-scripts
    try:
        if option.kind == "strs":
            return _texts(option, value)
        if option.key in _LINES and isinstance(value, (list, tuple)):
            value = "\n".join(_str(item) for item in value)
        found = _CONVERT[option.kind](value)
    except BadValue:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValue(_KIND_NAMES[option.kind]) from error
    if found == 0 and option.optional and option.minimum == 1:
        return None
    return found


_LINES = ("sample_prompts",)
"""Texts with an entry on each line, of which a list has one entry for each."""
LISTS = ("strs", "floats")
"""Kinds of settings that are lists; an empty one is their "not set"."""
NOTHING = ("none", "null")
"""Words for "not set", which programs write for Python's None."""


def says_nothing(option: Option, value: Any) -> bool:
    """True when `value` leaves the setting unset, as sd-scripts and the programs that write its files mean it.

    sd-scripts asks of a text whether it is true, and so false and 0 are none. In numbers 0 is a value.
    """
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return True
    is_text = option.kind in ("str", "strs")
    if isinstance(value, str):
        text = value.strip().lower()
        if option.kind == "bool":
            return False
        return text in ("", *NOTHING) or (text == "false" and (is_text or option.optional))
    if value is False:
        return option.kind != "bool" and (is_text or option.kind == "floats" or option.optional)
    return is_text and isinstance(value, (int, float)) and value == 0


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
        value = value.strip().strip("[](){}").replace(",", " ").replace(";", " ").split()
    items = value if isinstance(value, (list, tuple)) else [value]
    return [_float(item) for item in items]


def _texts(option: Option, value: Any) -> list[str]:
    """A list of texts. One text holds an entry on each line; what its entries are says where a line is cut."""
    one = False
    if isinstance(value, str):
        inside = listed(value)
        one, value = inside is None, value.splitlines() if inside is None else inside
    if isinstance(value, dict) and option.key in ARGUMENTS:
        value = from_table(value)
    items = value if isinstance(value, (list, tuple)) else [value]
    texts = [text for text in (_str(item).strip() for item in items) if text]
    if option.key in ARGUMENTS:
        arguments = split_arguments(texts)
        for argument in arguments:
            if problem := comma_problem(argument):
                raise BadValue(f"in {argument!r} {problem}")
            if option.key in OF_PYTHON and not is_argument(argument):
                raise BadValue(f"in it {argument!r} must be key=value, such as {OF_PYTHON[option.key]}")
        return arguments
    return [entry for text in texts for entry in _entries(option.key, text)] if one else texts


OF_PYTHON = {"optimizer_args": "weight_decay=0.01", "lr_scheduler_args": "T_max=10"}
"""Settings whose arguments go to a function as they are, each with an example."""


def _entries(key: str, line: str) -> list[str]:
    """The entries in one line of a text."""
    if key in _FILES:
        return _files(line)
    if key in _WORDS:
        return [unquoted(word) for word in unquoted(line).replace(",", " ").split()]
    return [unquoted(line)]


_FILES = ("base_weights",)
_WORDS = ("freeze_blocks",)
"""Lists of files, and of words without a space or comma in them. The entries of any other list are whole sentences."""
_AFTER_AN_ENDING = re.compile(r"(?<=\.safetensors)[\s,;]+|(?<=\.ckpt)[\s,;]+|(?<=\.pt)[\s,;]+", re.IGNORECASE)


def _files(text: str) -> list[str]:
    """The files in one line, as on a command line: in quotation marks, or one after another. They may have spaces."""
    if text[:1] in "\"'":
        try:
            return [unquoted(piece) for piece in shlex.split(text, posix=False)]
        except ValueError:
            return [unquoted(text)]
    pieces = [piece for piece in _AFTER_AN_ENDING.split(text) if piece]
    if len(pieces) > 1 or _AFTER_AN_ENDING.search(text + " "):
        return pieces
    return [text] if exists(text) else text.split()


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "int_or_float": _int_or_float,
    "str": _str,
    "floats": _floats,
}
