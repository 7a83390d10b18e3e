"""How large a file of settings may be. A larger one is no settings file, and checking every key would take too long."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.config.errors import AtelierError

KEYS = 20_000
"""Keys in all tables together, and entries of lists. A dataset of a thousand folders has fewer."""
NAMES = 1_000
"""Different keys. kohya's programs know about six hundred."""
DEPTH = 40
"""Nested tables and lists."""


def check_size(content: object, name: str) -> None:
    """Raises `AtelierError` when `content`, read from the file called `name`, is larger than settings can be."""
    keys = 0
    names: set[object] = set()
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Mapping):
            keys += len(value)
            names.update(value)
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            keys += len(value)
            waiting += [(item, depth + 1) for item in value]
        if keys > KEYS or len(names) > NAMES:
            raise AtelierError(f"{name} has too many keys for settings: over {NAMES:,} different or {KEYS:,} in all.")
        if depth > DEPTH:
            raise AtelierError(f"{name} nests tables or lists more than {DEPTH} deep, which settings never do.")
