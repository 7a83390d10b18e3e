"""How much a file of settings may hold. More is none, and would take longer to explain than anybody waits."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.config.errors import AtelierError

KEYS = 20_000
"""In all tables together, with the entries of lists: a data set of a thousand folders has fewer."""
NAMES = 1_000
"""Different ones: kohya's programs know about six hundred."""
DEPTH = 40
"""Tables and lists within each other."""


def check_size(content: object, name: str) -> None:
    """Raises `AtelierError` when the tables and lists in `content` are more than settings are. `name`: of the file."""
    keys = 0
    names: set[object] = set()
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Mapping):
            keys += len(value)
            names.update(value)
            waiting += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list):
            keys += len(value)
            waiting += [(each, depth + 1) for each in value]
        if keys > KEYS or len(names) > NAMES:
            raise AtelierError(f"{name} has more keys than settings have: {NAMES:,} different ones or {KEYS:,} in all.")
        if depth > DEPTH:
            raise AtelierError(f"{name} holds tables or lists {DEPTH} deep, which settings do not.")
