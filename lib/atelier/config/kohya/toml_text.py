"""Parses TOML text with Python's own reader; on Python 3.10 that is the package tomli."""

from __future__ import annotations

import sys
from typing import Any

from atelier.config.errors import AtelierError


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises `AtelierError` with the line, and with a hint about backslashes.

    tomlkit, which writes our files, is not used for reading: it takes minutes for some texts of 20 kB.
    """
    # Imported here: what reads no TOML also runs on a Python 3.10 without tomli.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        hint = " Write folders in single quotes ('C:\\pictures') or with /." if "\\" in text else ""
        raise AtelierError(f"{name} is not valid TOML: {str(error).rstrip('.')}.{hint}") from error
