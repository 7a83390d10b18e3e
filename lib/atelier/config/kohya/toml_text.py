"""TOML's text into plain values, by Python's own reader, which is the package tomli where Python is 3.10."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from atelier.config.errors import AtelierError


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises `AtelierError` with the line, and what to do about backslashes.

    tomlkit, which writes our files, keeps every space of what it reads, and takes minutes for some texts of 20 kB.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        hint = " Write folders as 'C:\\pictures' in single quotes, or with / between them." if "\\" in text else ""
        raise AtelierError(f"{name} is not valid TOML: {str(error).rstrip('.')}.{hint}") from error
