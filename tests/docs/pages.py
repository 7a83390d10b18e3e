"""The texts for people, taken apart: links, anchors, names of files, command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_FENCE = re.compile(r"^(```|~~~)[^\n]*\n(.*?)^\1", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}[^\n]*\n)+)")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*#*$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|\s)(?:python|launch\b.*) run\.py(?=\s|$)(.*)")
ENDINGS = "py|js|css|md|toml|txt|tsv|ini|json|yml|png"
_FILE = re.compile(rf"[\w.*-]+(?:/[\w.*-]+)*(?:\.(?:{ENDINGS})|/)")


@dataclass(frozen=True)
class Page:
    """One file of Markdown or YAML. `name` is its path below the repository."""

    name: str
    path: Path
    text: str

    @classmethod
    def read(cls, root: Path, path: Path) -> Page:
        return cls(path.relative_to(root).as_posix(), path, path.read_text(encoding="utf-8"))

    @classmethod
    def write(cls, folder: Path, text: str, name: str = "page.md") -> Page:
        """A page for a test, in `folder`."""
        (folder / name).write_text(text, encoding="utf-8")
        return cls.read(folder, folder / name)

    @cached_property
    def prose(self) -> str:
        """The text without blocks and spans of code, in which nothing is a link or a heading."""
        return _SPAN.sub("``", _INDENTED.sub("", _FENCE.sub("", self.text)))

    @cached_property
    def spans(self) -> list[str]:
        """Spans of code within sentences."""
        return _SPAN.findall(_INDENTED.sub("", _FENCE.sub("", self.text)))

    @cached_property
    def code(self) -> list[str]:
        """Every line of a code block without its comment (in YAML, what a step runs), and every span of code."""
        if self.path.suffix != ".md":
            return [line.split("run: ", 1)[1] for line in self.text.splitlines() if "run: " in line] + self.spans
        blocks = [found[1] for found in _FENCE.findall(self.text)] + _INDENTED.findall(_FENCE.sub("", self.text))
        lines = [re.split(r"(?:^|\s)#\s", line)[0].strip() for block in blocks for line in block.splitlines()]
        return [line for line in lines if line] + self.spans

    @cached_property
    def links(self) -> list[str]:
        """Where its links and pictures point, those to other sites left out. Those in YAML are GitHub's to resolve."""
        if self.path.suffix != ".md":
            return []
        found = _LINK.findall(self.prose)
        return [target for target in found if not re.match(r"[a-z]+:", target)]

    @cached_property
    def anchors(self) -> set[str]:
        """What can stand behind # in a link to it, as GitHub makes it of headings."""
        found: set[str] = set()
        for heading in _HEADING.findall(_FENCE.sub("", self.text)):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
            anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            number, free = 0, anchor
            while free in found:
                number += 1
                free = f"{anchor}-{number}"
            found.add(free)
        return found

    def files(self) -> Iterator[str]:
        """Names of files in its code, also with * in them, and of folders, which end with a slash."""
        for code in self.code:
            for word in re.split(r"[\s,;:'\"()]+", code):
                if _FILE.fullmatch(word):
                    yield word

    @property
    def commands(self) -> list[list[str]]:
        """The words behind run.py in every command line that is there to be typed."""
        found = [_COMMAND.search(code) for code in self.code]
        return [shlex.split(each.group(1)) for each in found if each]

    @property
    def mentions(self) -> list[list[str]]:
        """The same where a sentence speaks of a command, as in `run.py lora merge`: it need not be complete."""
        return [shlex.split(span)[1:] for span in self.spans if span.startswith("run.py ")]


def pages(root: Path) -> list[Page]:
    """Every text of the repository, sorted by name."""
    paths = [*root.glob("*.md"), *(path for name in ("docs", ".github", "assets") for path in (root / name).rglob("*"))]
    return [Page.read(root, path) for path in sorted(paths) if path.suffix in (".md", ".yml") and path.is_file()]


def broken_links(root: Path, page: Page) -> list[str]:
    """The links of a page that lead to no file, out of the repository, or to no heading."""
    wrong = []
    for link in page.links:
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path.resolve()
        if not target.exists() or not target.is_relative_to(root.resolve()):
            wrong.append(f"{page.name}: {link} is not there")
        elif anchor and target.suffix == ".md" and anchor not in Page.read(root.resolve(), target).anchors:
            wrong.append(f"{page.name}: {link} has no such heading")
    return wrong


class Files:
    """The files of the repository, to be asked by the names that texts use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "lib" / "atelier"
        self.tops = {path.name for path in root.iterdir() if path.is_dir()} - {"data"}
        self.rooms = {path.name for path in self.package.iterdir() if path.is_dir()}
        self.names = {path.name for top in ("lib", "tests", "scripts") for path in (root / top).rglob("*.py")}
        self.names |= {path.name for path in root.glob("*.py")}

    def lacks(self, name: str) -> bool | None:
        """Whether a file of this name is missing; None when the name is not one of the repository's."""
        first, *more = name.split("/")
        if not more:
            return name not in self.names if name.endswith(".py") else None
        if first in self.tops:
            return not any(self.root.glob(name))
        if first in self.rooms and name.endswith(".py"):
            return not any(self.package.glob(name))
        return None
