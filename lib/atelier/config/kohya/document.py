"""A TOML file that was read: its content, and the line of each key for error messages."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError, Problem
from atelier.config.files.limits import check_size
from atelier.config.files.whole_file import read_whole
from atelier.config.kohya.toml_text import parse_toml

_KEY = re.compile(r"""(?:^|[{,\s])(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*=""")
"""A key in a line, with or without quotation marks."""


@dataclasses.dataclass(frozen=True)
class Document:
    """A parsed TOML file, with its text for looking up lines."""

    name: str
    text: str
    content: dict[str, Any]

    def line_of(self, key: str, occurrence: int = 0) -> int | None:
        """The line, counted from 1, that sets `key` for the n-th time (`occurrence`, from 0)."""
        lines = self._lines.get(key)
        return lines[min(occurrence, len(lines) - 1)] if lines else None

    @cached_property
    def _lines(self) -> dict[str, list[int]]:
        """Key -> the lines that set it."""
        found: dict[str, list[int]] = {}
        for number, line in enumerate(self.text.split("\n"), 1):
            if line.lstrip().startswith("#"):
                continue
            for key in dict.fromkeys("".join(names) for names in _KEY.findall(line)):
                found.setdefault(key, []).append(number)
        return found

    def problem(self, key: str, value: object, allowed: str) -> Problem:
        return Problem(key, value, allowed, self.name, self.line_of(key))


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 when it starts with that byte order mark. Raises `AtelierError`."""
    data = read_whole(path)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise AtelierError(f"{path.name} is not text in UTF-8. Save it as UTF-8.") from error


def read_document(path: Path) -> Document:
    """Parses a TOML file, with any line endings, with or without a byte order mark. Raises `AtelierError`."""
    return parse_document(read_text(path), path.name)


def parse_document(text: str, name: str) -> Document:
    """Parses TOML text. Raises `AtelierError` with the line."""
    text = text.replace("\r\n", "\n")
    content = parse_toml(text, name)
    check_size(content, name)
    return Document(name, text, content)
