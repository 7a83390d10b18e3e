"""What is said about captions whose encoding had to be guessed, or that lost letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atelier.config.files.legacy_text import Guess

_LISTED = 5


def said_of(read: Sequence[tuple[Path, Guess]]) -> list[str]:
    """Sentences about caption files that were not certain to read, with the files' names."""
    loud = [(path, guess) for path, guess in read if not guess.silent]
    told = []
    for encoding in dict.fromkeys(guess.encoding for _, guess in loud if guess.sure and not guess.damaged):
        files = [path for path, guess in loud if guess.encoding == encoding and guess.sure and not guess.damaged]
        told.append(
            f"{_names(files)}: not in UTF-8; read as {encoding}. If captions look wrong, save {_it(files)} as UTF-8."
        )
    for encoding in dict.fromkeys(guess.encoding for _, guess in loud if not guess.sure and not guess.damaged):
        files = [path for path, guess in loud if guess.encoding == encoding and not guess.sure and not guess.damaged]
        told.append(
            f"{_names(files)}: not in UTF-8, and too short or too odd to tell the encoding. Read as {encoding}, which "
            f"may be wrong: save {_it(files)} as UTF-8."
        )
    damaged = [path for path, guess in loud if guess.damaged]
    if damaged:
        told.append(
            f"{_names(damaged)}: letters were lost, since some bytes are no text. Write {_it(damaged)} again, as UTF-8."
        )
    return told


def _names(files: Sequence[Path]) -> str:
    shown = ", ".join(path.name for path in files[:_LISTED])
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    return f"{files[0].parent / shown}{more}"


def _it(files: Sequence[Path]) -> str:
    return "it" if len(files) == 1 else "them"
