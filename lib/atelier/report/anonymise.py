"""Removes from a text who and where somebody is, and what they train.

Texts that are known to be private (user names, prompts, a run's name …) are replaced wherever they occur. Texts that
only look private (paths, addresses, tokens, quoted sentences) are replaced too: rather one word too many than one too
few.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from atelier.report.paths import last_names, place_in_code, without_paths
from atelier.report.words import PrivateWords

TOKEN, ADDRESS, FILE, TEXT = "<token>", "<address>", "<file>", "<text>"
_TOKENS = (
    re.compile(
        r"\b(?:hf_|sk-|pk-|gh[opsru]_|github_pat_|glpat-|xox[abp]-|AKIA|AIza)[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)*"
    ),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){1,2}"),
    re.compile(r"(?i)(?<=bearer )\S+|(?<=basic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"\b[0-9a-fA-F]{24,}\b"),
    re.compile(r"(?<![\w+/])(?=[\w+/-]*[a-z])(?=[\w+/-]*[A-Z])(?=[\w+/-]*\d)[\w+-]{32,}={0,2}(?![\w+/])"),
)
_SECRET = re.compile(
    r"""(?ix) ( (?:token|api[_-]?key|password|passwd|secret|cookie|authorization) ["']? \s* [=:] \s*
    | --[\w-]*(?:auth|token|key|password|secret)[\w-]* [ =] ) (?: "[^"\n]*" | '[^'\n]*' | [^\s"',;&]+ )"""
)
"""What a key or a flag of that name is set to."""
_ADDRESSES = (
    re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>`]+"),
    re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    re.compile(r"(?i)(?<![\w.-])(?:[a-z0-9-]+\.)+(?:local|lan|home|internal|com|net|org)\b(?::\d+)?"),
    re.compile(r"(?i)(?<![\w.-])(?:[a-z0-9-]+\.)*(?!py:)[a-z0-9-]*[a-z][a-z0-9-]*:\d{2,5}(?![\w.])"),
    re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![\w:])"),
)
"""An address of the web, of mail, of a machine by its name or its card."""
_NUMBERS = re.compile(
    r"""(?ix) (?<![\w.:]) (?: \d{1,3}(?:\.\d{1,3}){3}(?::\d+)? | (?=[0-9a-f]*:[0-9a-f]*:) [0-9a-f:]{2,}(?:%\w+)? )
    (?![\w:]|\.\d)"""
)
_FILE = re.compile(
    r"""(?ix) [^\s"'`(\[]* \. (png|jpe?g|webp|bmp|gif|tiff?|avif|jxl|txt|caption|safetensors|ckpt|pth?|bin|npz|toml
    |json|yaml) \b"""
)
_QUOTED = re.compile(
    r"""(?x) "(?P<double> [^"\n]*\s[^"\n]* )" | “(?P<curled> [^”\n]*\s[^”\n]* )”
    | (?<![^\W_]) '(?P<single> (?:[^'\n]|(?<=\w)'(?=\w))*? \s (?:[^'\n]|(?<=\w)'(?=\w))* )' (?![^\W_])"""
)
_FRAME = re.compile(r"""(\s*File )"(.*?)"(, line \d+(?:, in [\w<>.]+)?)\s*""")


class Anonymiser:
    """`words` is what is known to be private; `keep` are quoted texts that are the program's own."""

    def __init__(self, words: PrivateWords, keep: frozenset[str] = frozenset()) -> None:
        self._words = words
        self._keep = keep

    def text(self, text: str) -> str:
        """A sentence or several, without what is private."""
        names = PrivateWords()
        for name in last_names(text):
            names.add_word(name, FILE)
        text = _secrets(text)
        for pattern in _ADDRESSES:
            text = pattern.sub(ADDRESS, text)
        text = _NUMBERS.sub(_unless_no_address, text)
        text = without_paths(self._words.without(text))
        text = _FILE.sub(lambda match: f"{FILE}.{match[1].lower()}", names.without(text))
        return _QUOTED.sub(self._quoted, text)

    def log(self, text: str) -> str:
        """The same for lines with tracebacks in them, of which the places in the code are kept."""
        lines, kept, in_frame = [], [], False
        for line in [*text.splitlines(), ""]:
            frame = _FRAME.fullmatch(line)
            code = in_frame and line.startswith("    ")
            if not (frame or code):
                kept.append(line)
                in_frame = False
                continue
            lines += self._told(kept)
            kept = []
            if frame:
                place = self._words.without(place_in_code(frame[2]))
                lines.append(f'{frame[1]}"{place}"{frame[3]}')
            else:
                lines.append(self._words.without(_secrets(line)))
            in_frame = True
        return "\n".join([*lines, *self._told(kept)]).rstrip()

    def _told(self, lines: list[str]) -> list[str]:
        return self.text("\n".join(lines)).split("\n") if lines else []

    def _quoted(self, match: re.Match[str]) -> str:
        inside = next(text for text in match.groups() if text is not None)
        return match[0] if inside in self._keep else f"{match[0][0]}{TEXT}{match[0][-1]}"


def _secrets(text: str) -> str:
    for pattern in _TOKENS:
        text = pattern.sub(TOKEN, text)
    return _SECRET.sub(lambda match: f"{match[1]}{TOKEN}", text)


def _unless_no_address(match: re.Match[str]) -> str:
    """ "23:40:00" is a time, and "::" a mark of C++."""
    try:
        ip_address(match[0].partition(":" if "." in match[0] else "%")[0])
    except ValueError:
        return match[0]
    return match[0] if match[0] == "::" else ADDRESS
