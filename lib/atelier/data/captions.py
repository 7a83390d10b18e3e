"""Captions: finds and reads them, and varies them for each use (shuffle, dropout, wildcards) as kohya does."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from atelier.config.datasets import Subset
from atelier.config.files.legacy_text import Guess, read_unknown_text
from atelier.config.files.whole_file import CAPTIONS, read_whole

LONGEST_FILE = 65_536
"""Bytes of a caption file that are read. No text encoder takes more than 225 tokens."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CAMERA = re.compile(
    r"(img|dsc[nf]?|pxl|mvi|gopr|image|photo|picture|pic|screenshot|untitled|download)?[\s\d().\-]*", re.IGNORECASE
)
_COUNTER = re.compile(r"[\s\-]*(\(\d+\)|(?<!\w)\d+)\s*$")
_WILDCARD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Caption:
    """A picture's caption before it is varied. `source`: "file", "metadata", "name", "class" or "none"."""

    text: str
    source: str
    file: Path | None = field(default=None, compare=False)
    guess: Guess | None = field(default=None, compare=False)
    """How the text of `file` was read."""


def decode(data: bytes) -> str:
    """The text of a caption file in any encoding; see `read_unknown_text`."""
    return plain_text(read_unknown_text(data, cut=len(data) >= LONGEST_FILE).text)


def plain_text(text: str) -> str:
    """The text without control characters, and with newlines as line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    return _CONTROLS.sub("", text)


def read_caption_file(path: Path, every_line: bool) -> str | None:
    """The caption in a file: its first non-empty line, or all of them. None when the file is missing or unreadable.

    Never raises.
    """
    guess = _read(path)
    return None if guess is None else caption_of(guess, every_line)


def caption_of(guess: Guess, every_line: bool) -> str:
    """The caption in the text of a file: its first non-empty line, or all of them."""
    lines = [line.strip() for line in plain_text(guess.text).split("\n")]
    lines = [line for line in lines if line]
    return "\n".join(lines if every_line else lines[:1])


def _read(path: Path) -> Guess | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE)
    except (OSError, ValueError):
        return None
    return read_unknown_text(data, cut=len(data) >= LONGEST_FILE)


def caption_from_name(path: Path) -> str:
    """A file name as a caption: "red_fox (2).png" is "red fox". For the names that cameras give it is ""."""
    words = re.sub(r"[_+]+", " ", path.stem)
    words = re.sub(r"\s+", " ", words).strip()
    if _CAMERA.fullmatch(words):
        return ""
    return _COUNTER.sub("", words).strip(" -.,")


def read_metadata(path: Path, on_guess: Callable[[Guess], None] | None = None) -> dict[str, str]:
    """Captions by picture from kohya's metadata JSON: {"picture": {"caption": "…", "tags": "…"}}.

    Each caption is found under the key as written, under its file name and under its stem. `on_guess` is told how the
    file's text was read. Raises `AtelierError`, ValueError or RecursionError for a bad file.
    """
    guess = read_unknown_text(read_whole(path, CAPTIONS, "a file of captions"))
    entries = json.loads(plain_text(guess.text))
    if on_guess is not None:
        on_guess(guess)
    if not isinstance(entries, dict):
        raise ValueError("it must hold an object")
    captions: dict[str, str] = {}
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            continue
        parts = [entry.get("caption"), entry.get("tags")]
        text = ", ".join(part.strip() for part in parts if isinstance(part, str) and part.strip())
        text = _CONTROLS.sub("", text.encode("utf-8", "replace").decode())  # JSON can hold half of a letter
        name = re.split(r"[/\\]", key)[-1]
        for alias in (Path(name).stem, name, key):
            captions[alias] = text
    return captions


def find_caption(picture: Path, subset: Subset, metadata: dict[str, str] | None = None) -> Caption:
    """The caption of `picture`: from the metadata, its caption file, its name if asked for, or its folder's class.

    As in sd-scripts, the metadata file wins. The subset's own extension is tried first, then .txt and .caption. Never
    raises.
    """
    for alias in (str(picture), picture.name, picture.stem):
        if metadata and metadata.get(alias):
            return Caption(metadata[alias], "metadata")
    for ending in _endings(subset.caption_extension):
        for file in (picture.with_suffix(ending), picture.with_name(picture.name + ending)):
            guess = _read(file)
            text = "" if guess is None else caption_of(guess, subset.enable_wildcard)
            if text:
                return Caption(text, "file", file, guess)
    if subset.caption_from_name:
        name = caption_from_name(picture)
        if name:
            return Caption(name, "name")
    if subset.class_tokens:
        return Caption(subset.class_tokens, "class")
    return Caption("", "none")


def _endings(extension: str) -> list[str]:
    """The endings of caption files to try. An ending with a folder in it is ignored."""
    asked = "." + (extension or "txt").lstrip(".")
    usable = asked != "." and not re.search(r"[/\\\x00]", asked)
    return list(dict.fromkeys(([asked] if usable else []) + [".txt", ".caption"]))


def mentions(caption: str, trigger: str) -> bool:
    """True when the caption has the trigger as whole words."""
    return re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE) is not None


def final_caption(
    raw: str,
    subset: Subset,
    rng: random.Random,
    epoch: int = 0,
    step: int = 0,
    trigger: str = "",
    total_steps: int = 0,
) -> str:
    """The text for one use of a picture. All random choices come from `rng`.

    `epoch` and `step` count from 0. A token_warmup_step below 1 is a fraction of `total_steps`. The order is kohya's
    (sd-scripts, process_caption): caption dropout, choice of a line, prefix and suffix, wildcards, then tags: keep the
    fixed tags apart, warm-up, shuffle, tag dropout. The trigger is put in front as a fixed tag unless the caption has
    it. Class pictures never get it.
    """
    dropped = subset.caption_dropout_rate > 0 and rng.random() < subset.caption_dropout_rate
    every = subset.caption_dropout_every_n_epochs
    if dropped or (every > 0 and (epoch + 1) % every == 0):  # kohya counts epochs from 1
        return ""
    caption = _one_line(raw, subset, rng)
    caption = " ".join(part for part in (subset.caption_prefix, caption, subset.caption_suffix) if part)
    if subset.enable_wildcard:
        caption = resolve_wildcards(caption, rng)
    trigger = "" if subset.is_reg else trigger.strip()
    caption, leading = _with_trigger(caption, trigger, subset)
    if subset.shuffle_caption or subset.token_warmup_step > 0 or subset.caption_tag_dropout_rate > 0:
        caption = _rearranged(caption, leading, subset, rng, step, total_steps)
    elif subset.keep_tokens_separator:
        caption = _without_marks(caption, subset)
    if subset.secondary_separator:
        caption = caption.replace(subset.secondary_separator, _separator(subset))
    if trigger and not mentions(caption, trigger):  # it was in a tag that was dropped
        return f"{trigger}, {caption}" if caption else trigger
    return caption


def _separator(subset: Subset) -> str:
    return subset.caption_separator or ","


def _one_line(raw: str, subset: Subset, rng: random.Random) -> str:
    if "\n" not in raw:
        return raw
    lines = raw.split("\n")
    return rng.choice(lines) if subset.enable_wildcard else lines[0]


def resolve_wildcards(caption: str, rng: random.Random) -> str:
    """Replaces each {a|b|c} by one of a, b, c. {{ and }} are literal braces."""
    opening, closing = "\ue000", "\ue001"
    caption = caption.replace(opening, "").replace(closing, "")
    caption = caption.replace("{{", opening).replace("}}", closing)
    caption = _WILDCARD.sub(lambda found: rng.choice(found.group(1).split("|")), caption)
    return caption.replace(opening, "{").replace(closing, "}")


def _with_trigger(caption: str, trigger: str, subset: Subset) -> tuple[str, int]:
    """The caption with the trigger in it, and the number of fixed tags at its front."""
    keep = max(0, subset.keep_tokens)
    if not trigger:
        return caption, keep
    if not caption.strip():
        return trigger, max(1, keep)
    if not mentions(caption, trigger):
        between = ", " if _separator(subset) == "," else _separator(subset)
        return trigger + between + caption, keep + 1
    first = caption.split(_separator(subset), 1)[0]
    return caption, max(1, keep) if mentions(first, trigger) else keep


def _tags(text: str, subset: Subset) -> list[str]:
    return [tag.strip() for tag in text.split(_separator(subset)) if tag.strip()]


def _rearranged(caption: str, leading: int, subset: Subset, rng: random.Random, step: int, total_steps: int) -> str:
    """Applies warm-up, shuffle and dropout to the tags between the fixed ones at the front and at the end."""
    ending: list[str] = []
    mark = subset.keep_tokens_separator
    if mark and mark in caption:
        front, _, rest = caption.partition(mark)
        middle, _, end = rest.partition(mark)
        fixed, free, ending = _tags(front, subset), _tags(middle, subset), _tags(end, subset)
    else:
        tags = _tags(caption, subset)
        fixed, free = tags[:leading], tags[leading:]
    warmup = subset.token_warmup_step
    if warmup < 1:
        warmup = math.floor(warmup * total_steps)
    if warmup and step < warmup:
        least = max(0, subset.token_warmup_min)
        free = free[: max(0, math.floor(step * ((len(free) - least) / warmup)) + least)]
    if subset.shuffle_caption:
        rng.shuffle(free)
    if subset.caption_tag_dropout_rate > 0:
        free = [tag for tag in free if rng.random() >= subset.caption_tag_dropout_rate]
    return ", ".join(fixed + free + ending)


def _without_marks(caption: str, subset: Subset) -> str:
    """The caption without keep_tokens_separator, which is an instruction and no word, even when nothing is shuffled."""
    parts = [part.strip().strip(_separator(subset)).strip() for part in caption.split(subset.keep_tokens_separator)]
    return ", ".join(part for part in parts if part)
