"""Finds and removes paths in ordinary text: with spaces, within sentences, of any operating system."""

from __future__ import annotations

import re
from collections.abc import Iterator

INSTEAD = "<path>"
_START = re.compile(
    r"""
    (?<![\w<>/\\.]) (?:~\w*|\.{1,2})? / (?=[^\s/"'>])      # /a, ~/a, ~jane/a, ./a
    | (?<![^\W_]) [A-Za-z]: [\\/]                            # C:\a
    | (?<!\\) \\{2,4} (?=[^\s\\"'])                          # \\server\a
    | <path> (?=[\\/])                                       # one whose beginning was known
    """,
    re.VERBOSE,
)
_CLAUSE_END = re.compile(r"""[,;:.!?)\]]+(?=\s|$)|\s(?=[(\[–—])|["“”\n]|(?<!\w)'|'(?!\w)|$""")
_GOES_ON = frozenset((
    "after", "and", "are", "be", "been", "before", "but", "by", "can", "cannot", "could", "did", "do", "does",
    "for", "from", "had", "has", "have", "holds", "in", "instead", "into", "is", "may", "must", "names",
    "needs", "not", "of", "on", "or", "should", "so", "than", "that", "to", "was", "were", "when", "which",
    "while", "will", "with", "without", "would",
))  # fmt: skip
"""Words that go on with the sentence after a path, rather than with the name of a folder."""
_CODE = re.compile(
    r"""
    .*[\\/] (?: (?:site|dist)-packages [\\/]                 # an installed package
    | (?= lib[\\/]atelier[\\/] )                             # this one
    | (?= (?:modules|modules_forge|backend|ldm_patched|extensions-builtin|extensions|repositories|scripts)[\\/] )
    | (?: lib|Lib )[\\/] (?: python\d[\d.]* [\\/] )? (?= [\w\\/]+\.py$ ) )   # Python's own
    """,
    re.VERBOSE,
)


def without_paths(text: str) -> str:
    """The text with every absolute path replaced by `INSTEAD`, also where one has spaces in it."""
    parts, at = [], 0
    for begin, end in _spans(text):
        parts += [text[at:begin], INSTEAD]
        at = end
    return "".join([*parts, text[at:]])


def last_names(text: str) -> set[str]:
    """What the paths in a text end with: a file's name is often told beside its path."""
    found = set()
    for begin, end in _spans(text):
        name = re.split(r"[\\/]", text[begin:end].rstrip("\\/"))[-1]
        found.update({name, name.rpartition(".")[0]} if "." in name else {name})
    return {name for name in found if len(name) > 2}


def place_in_code(path: str) -> str:
    """Where a line of code is, without where that is on this machine; `INSTEAD` for code of nobody we know."""
    if re.fullmatch(r"<[\w. -]+>", path):
        return path
    found = _CODE.match(path)
    return path[found.end() :].replace("\\", "/") if found else INSTEAD


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of each path."""
    at = 0
    while match := _START.search(text, at):
        begin = match.start()
        at = max(_end(text, begin, match.end()), match.end())
        yield begin, at


def _end(text: str, begin: int, start: int) -> int:
    """The end of a path that begins at `begin`, and whose first part begins at `start`."""
    quote = text[begin - 1 : begin]
    if quote and quote in "\"'`":
        closing = re.compile(rf"{quote}|\n|$").search(text, start)
        return closing.start() if closing else len(text)
    clause = _CLAUSE_END.search(text, start)
    end = clause.start() if clause else len(text)
    another = _START.search(text, start)
    while another and another.start() < end:
        if text[another.start() - 1].isspace():
            end = another.start()
            break
        another = _START.search(text, another.end())
    # Up to the last word with a slash in it everything is of the path, and from there on what may be of a name.
    last = max(text.rfind("/", start, end), text.rfind("\\", start, end), start - 1)
    words = list(re.finditer(r"\S+", text[last + 1 : end])) if text[last + 1 : last + 2].strip() else []
    kept = last + 1
    for number, word in enumerate(words):
        if number and word[0].lower() in _GOES_ON:
            break
        kept = last + 1 + word.end()
        if re.search(r"\.[A-Za-z][A-Za-z0-9]{1,11}$", word[0]):
            break
    return kept
