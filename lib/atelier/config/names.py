"""Names of output files: which are allowed, and the next free one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from atelier.config.errors import Problem, SettingsError

LONGEST, MOST_BYTES = 100, 200
"""Of a name, so that file systems take it with a run's number and an ending: letters, and its bytes in UTF-8."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')


def name_problem(name: str) -> str | None:
    """What would be allowed, as a clause, when `name` cannot be a file's name on every system; None when it can."""
    if not name or not name.strip():
        return "give it a name"
    if "/" in name or "\\" in name:
        return "a name cannot contain a folder; leave out / and \\"
    found = _FORBIDDEN.search(name)
    if found:
        return f"a name cannot contain {found.group()!r}"
    if name in (".", "..") or name.startswith((".", " ", "-")) or name.endswith((".", " ")):
        return "a name cannot start with a dot, a space or a dash, nor end with a dot or a space"
    if name.split(".")[0].lower() in _RESERVED:
        return "Windows reserves this name; choose another"
    if len(name) > LONGEST:
        return f"a name can have at most {LONGEST} characters"
    if len(name.encode()) > MOST_BYTES:
        return f"a name can have at most {MOST_BYTES} bytes, and letters outside ASCII count two to four; shorten it"
    return None


def check_output_name(name: str) -> str:
    """`name` itself. Raises `SettingsError` when it cannot be a file's name on every system."""
    allowed = name_problem(name)
    if allowed:
        raise SettingsError([Problem("output_name", name, allowed)])
    return name


def is_taken(folder: Path, name: str, suffixes: Sequence[str] = (".safetensors", ".ckpt", ".pt")) -> bool:
    """True when `folder` has a file of that name, or one that a run of that name saved by epoch or step."""
    if not folder.is_dir():
        return False
    saves = re.compile(re.escape(name.lower()) + r"(-\d{6}|-step\d{8})?$")
    return any(
        path.suffix.lower() in suffixes and saves.match(path.stem.lower()) is not None for path in folder.iterdir()
    )


def free_name(folder: Path, name: str, taken: Sequence[str] = ()) -> str:
    """`name`, or NAME-2, NAME-3 …: the first that is neither in `folder` nor in `taken`."""
    number, candidate = 1, name
    while is_taken(folder, candidate) or candidate.lower() in {other.lower() for other in taken}:
        number += 1
        candidate = f"{name}-{number}"
    return candidate
