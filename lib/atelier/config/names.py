"""Names that become files: what is allowed, and the next free one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from atelier.config.errors import Problem, SettingsError

LONGEST = 100
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


def name_problem(name: str) -> str | None:
    """What is allowed, when `name` cannot be the name of an output on every system; None when it can."""
    if not name or not name.strip():
        return "give it a name"
    if "/" in name or "\\" in name:
        return "a name has no folder in it; leave out / and \\"
    found = _FORBIDDEN.search(name)
    if found:
        return f"a name has no {found.group()!r} in it"
    if name in (".", "..") or name.startswith((".", " ", "-")) or name.endswith((".", " ")):
        return "a name does not begin with a point, a space or a dash, nor end with a point or a space"
    if name.split(".")[0].lower() in _RESERVED:
        return "Windows keeps this name for itself; choose another"
    if len(name) > LONGEST or len(name.encode()) > 200:
        return f"a name has at most {LONGEST} letters"
    return None


def check_output_name(name: str) -> str:
    """`name` itself. Raises `SettingsError` when it cannot be a file's name on every system."""
    allowed = name_problem(name)
    if allowed:
        raise SettingsError([Problem("output_name", name, allowed)])
    return name


def is_taken(folder: Path, name: str, suffixes: Sequence[str] = (".safetensors", ".ckpt", ".pt")) -> bool:
    """True when a file of that name, or one of its saves by epoch or step, is in `folder`."""
    if not folder.is_dir():
        return False
    saves = re.compile(re.escape(name.lower()) + r"(-\d{6}|-step\d{8})?$")
    return any(
        path.suffix.lower() in suffixes and saves.match(path.stem.lower()) is not None for path in folder.iterdir()
    )


def free_name(folder: Path, name: str, taken: Sequence[str] = ()) -> str:
    """`name`, or NAME-2, NAME-3 … : the first that is neither in `folder` nor among `taken`."""
    number, candidate = 1, name
    while is_taken(folder, candidate) or candidate.lower() in {other.lower() for other in taken}:
        number += 1
        candidate = f"{name}-{number}"
    return candidate
