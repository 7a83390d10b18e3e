"""Reads sample prompts in kohya's three formats: lines of text, TOML and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.files.legacy_text import Guess, read_unknown_text
from atelier.config.files.paths import expanded, is_file
from atelier.config.files.whole_file import read_whole
from atelier.config.kohya.toml_text import parse_toml
from atelier.config.settings.schema import labelled


@dataclass(frozen=True)
class SamplePrompt:
    """One sample picture to draw while training. Unset sizes and steps are filled in from the run's settings."""

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    sample_steps: int | None = None
    scale: float | None = None
    sample_sampler: str | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False)
    """Sentences about values that were held within bounds."""


_FLAGS: dict[str, tuple[str, type]] = {
    "n": ("negative_prompt", str),
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "s": ("sample_steps", int),
    "l": ("scale", float),
    "ss": ("sample_sampler", str),
}
_OTHERS = frozenset({"g", "cn", "i", "ctr", "rcfg", "fs"})
"""kohya's flags for other models and for control pictures: they are ignored, as there."""
_FLAG = re.compile(r"\s--([a-z]{1,4})\s+", re.IGNORECASE)
_MOST_STEPS, _LEAST_SIDE, _MOST_SIDE = 1000, 64, 4096


def parse_line(line: str) -> SamplePrompt:
    """Reads `a cat --n bad --w 512 --h 512 --d 1 --s 20 --l 7 --ss euler_a`. Unknown flags stay in the prompt.

    Flags that kohya has for other models are ignored. Steps and sides are held within bounds, as in kohya's scripts.
    Raises `AtelierError` when a flag that takes a number has something else.
    """
    pieces = _FLAG.split(" " + line)
    prompt, values = pieces[0], {}
    for flag, text in zip(pieces[1::2], pieces[2::2]):
        if flag.lower() in _OTHERS:
            continue
        if flag.lower() not in _FLAGS:
            prompt += f" --{flag} {text}"
            continue
        name, kind = _FLAGS[flag.lower()]
        try:
            values[name] = kind(text.strip())
        except ValueError as error:
            raise AtelierError(f"In the sample prompt {line.strip()!r}, --{flag} must be a number.") from error
    return _within_bounds(SamplePrompt(prompt=prompt.strip(), **values))


def _within_bounds(prompt: SamplePrompt) -> SamplePrompt:
    """Holds steps to 1 … 1000, sides to 64 … 4096 pixels in multiples of 8, and seeds to 63 bits.

    These are kohya's bounds, except that sides end at 4096 pixels, and seeds at what torch's generators take.
    """
    steps, width, height = prompt.sample_steps, prompt.width, prompt.height
    return replace(
        prompt,
        remarks=tuple(_remarks(prompt)),
        sample_steps=None if steps is None else max(1, min(_MOST_STEPS, steps)),
        width=None if width is None else min(_MOST_SIDE, max(_LEAST_SIDE, width - width % 8)),
        height=None if height is None else min(_MOST_SIDE, max(_LEAST_SIDE, height - height % 8)),
        seed=None if prompt.seed is None else prompt.seed % 2**63,
    )


def _remarks(prompt: SamplePrompt) -> list[str]:
    """A sentence for each value beyond its bounds; sides that are only rounded to 8 pixels need none."""
    bounds = {
        "width": (prompt.width, _LEAST_SIDE, _MOST_SIDE, " pixels"),
        "height": (prompt.height, _LEAST_SIDE, _MOST_SIDE, " pixels"),
        "steps": (prompt.sample_steps, 1, _MOST_STEPS, ""),
    }
    return [
        f"The sample {prompt.prompt!r} asks for {name} {value}; it is drawn with {max(least, min(most, value))}, "
        f"since {least} to {most}{unit} are possible."
        for name, (value, least, most, unit) in bounds.items()
        if value is not None and not least <= value <= most
    ]


def parse_lines(text: str) -> list[SamplePrompt]:
    """One prompt per line; empty lines and lines that start with # are skipped."""
    lines = (line.strip() for line in text.splitlines())
    return [parse_line(line) for line in lines if line and not line.startswith("#")]


PROMPT_FILES = (".txt", ".toml", ".json")
"""Endings of files of prompts."""
_NO_PROMPTS = (".yaml", ".yml", ".csv", ".md", ".text", ".jsonl", ".ini", ".cfg")
"""Endings of other files of text, which no prompt has either."""
_PATH = re.compile(r"(~|\.{0,2}[/\\]|[A-Za-z]:[/\\])\S*")
"""How a path begins that no prompt begins with."""


def named_file(text: str | None) -> str | None:
    """The path that sample_prompts is, whether there is such a file or not; None when it holds prompts."""
    given = (text or "").strip()
    if len(given) > 1 and given[0] == given[-1] and given[0] in "\"'":
        given = given[1:-1].strip()
    if not given or "\n" in given:
        return None
    a_path = given.lower().endswith((*PROMPT_FILES, *_NO_PROMPTS)) or _PATH.fullmatch(given)
    return given if a_path else None


def prompts_file(text: str | None) -> Path | None:
    """The file of prompts that the setting sample_prompts names; None when it holds the prompts themselves.

    Raises `AtelierError` for a path that is no such file, which would be drawn as a prompt.
    """
    given = named_file(text)
    if given is None:
        return None
    if given.lower().endswith(PROMPT_FILES) and is_file(given):
        return expanded(given)
    raise AtelierError(
        f"{labelled('sample_prompts')} is {given!r}; there is no such file of prompts (.txt, .toml or .json). "
        "Give one that is there, or write the prompts themselves."
    )


def read_sample_prompts(path: Path, on_guess: Callable[[Guess], None] | None = None) -> list[SamplePrompt]:
    """The prompts of a .txt, .toml or .json file. `on_guess` is told how the file's text was read.

    Raises `AtelierError` when it cannot be read.
    """
    guess = read_unknown_text(read_whole(path, what="a file of sample prompts"))
    if on_guess is not None:
        on_guess(guess)
    text = guess.text
    try:
        if path.suffix.lower() == ".toml":
            return _from_toml(parse_toml(text, path.name))
        if path.suffix.lower() == ".json":
            items = json.loads(text)
            return [_from_mapping(item, {}) for item in (items if isinstance(items, list) else [items])]
    except (ValueError, RecursionError) as error:
        raise AtelierError(f"The sample prompts {path.name} are not valid: {error}.") from error
    return parse_lines(text)


def with_defaults(prompt: SamplePrompt, **defaults: Any) -> SamplePrompt:
    """`prompt` with each unset field taken from `defaults`."""
    unset = {key: value for key, value in defaults.items() if getattr(prompt, key) is None}
    return replace(prompt, **unset)


def _from_toml(document: Mapping[str, Any]) -> list[SamplePrompt]:
    shared = document.get("prompt", {})
    if not isinstance(shared, Mapping):
        raise ValueError("[prompt] is missing")
    subsets = shared.get("subset") or [{}]
    if not isinstance(subsets, list):
        raise ValueError("[[prompt.subset]] is not a list of tables")
    return [_from_mapping(subset, shared) for subset in subsets]


def _from_mapping(item: object, shared: Mapping[str, Any]) -> SamplePrompt:
    if isinstance(item, str):
        return parse_line(item)
    if not isinstance(item, Mapping):
        raise ValueError(f"{item!r} is not a prompt")
    known = {each.name for each in fields(SamplePrompt)} - {"remarks"}
    values = {key: value for key, value in {**shared, **item}.items() if key in known and value is not None}
    if not isinstance(values.get("prompt"), str):
        raise ValueError("a prompt has no text")
    for name, kind in _FLAGS.values():
        if name in values:
            values[name] = _as_kind(name, values[name], kind)
    return _within_bounds(SamplePrompt(**values))


def _as_kind(name: str, value: Any, kind: type) -> Any:
    """A value of a TOML or JSON prompt as text or a number; a number may be written as text."""
    try:
        if isinstance(value, (bool, list, dict)) or (kind is str and not isinstance(value, str)):
            raise TypeError
        number = kind(value)
        if kind is int and isinstance(value, float) and number != value:
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}; it must be {'text' if kind is str else 'a number'}") from None
    return number
