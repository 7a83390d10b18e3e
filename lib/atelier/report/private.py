"""Collects the words that are known to be private: of this machine, and of a run from its record."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.settings.schema import options
from atelier.jobs.files import read_lines
from atelier.report.words import PrivateWords

USER, HOST, PATH, NAME, TRIGGER, PROMPT, MODEL = (
    "<user>", "<host>", "<path>", "<name>", "<trigger>", "<prompt>", "<model>",
)  # fmt: skip
LARGEST = 4 << 20
"""Bytes that are read of a file of a record."""
PUBLIC = frozenset((
    "resolution", "face_crop_aug_range", "caption_extension", "caption_separator", "keep_tokens_separator",
    "secondary_separator", "network_args", "optimizer_type", "optimizer_args", "lr_scheduler_type",
    "lr_scheduler_args", "freeze_blocks", "block_lr",
))  # fmt: skip
"""Settings that are text and say nothing of anybody, as do those that are chosen from a list. All others are private,
and so is every key that is not known."""
_KINDS = {"trigger": TRIGGER, "class_tokens": TRIGGER, "output_name": NAME, "metadata_trigger_phrase": TRIGGER}
_QUOTED = re.compile(r"""(?:["']?(\w+)["']?\s*[:=]\s*\[?\s*)?(?:"((?:[^"\\\n]|\\.)+)"|'([^'\n]+)')""")
"""A text of a damaged file, with its key where that stands before it."""
_OF_HEAD = {"name": "output_name", "trigger": "trigger", "title": "", "identity": ""}
"""What is private in job.json, and the keys of which kind it is."""
_BESIDE_A_FILE = re.compile(r"\s*\[\w+\]$|:\d+:\w*$")
"""A WebUI titles a model "FILE [HASH]", and tells it from others as "FILE:TIME:HASH"."""
_SMALL = frozenset(("a", "an", "and", "at", "by", "for", "in", "is", "of", "on", "or", "the", "to", "with"))
_ORDINARY = frozenset((
    "captions", "checkpoint", "checkpoints", "class", "data", "dataset", "datasets", "image", "images", "img",
    "input", "lora", "loras", "masks", "model", "models", "output", "photo", "photos", "picture", "pictures",
    "reg", "regularization", "sample", "samples", "train", "training",
))  # fmt: skip
"""Names of folders that say nothing of anybody, and that messages are full of."""
LONGEST_PATH = 1000


def add_machine(words: PrivateWords) -> None:
    """The person's names and home, and the machine's name."""
    names = [os.environ.get(key, "") for key in ("USER", "USERNAME", "LOGNAME")]
    with contextlib.suppress(OSError, KeyError, ImportError):  # a process of nobody, as in some containers
        names.append(getpass.getuser())
    homes = [os.environ.get(key, "") for key in ("HOME", "USERPROFILE")]
    with contextlib.suppress(RuntimeError):
        homes.append(str(Path.home()))
    for home in filter(None, homes):
        if len(home.strip("/\\")) > 1:
            words.add_word(home, PATH)
            names.append(re.split(r"[\\/]", home.rstrip("\\/"))[-1])
    for name in filter(None, names):
        words.add_word(name, USER)
        words.add_phrase(_full_name(name), USER)
    for name in (platform.node(), os.environ.get("COMPUTERNAME", ""), os.environ.get("HOSTNAME", "")):
        for part in filter(None, (name, name.partition(".")[0])):
            words.add_word(part, HOST)


def add_folder(words: PrivateWords, folder: Path) -> None:
    """A folder of the program's own, as it is written and as it is."""
    for path in (folder, folder.absolute()):
        if len(str(path).strip("/\\.")) > 1 and (path.is_absolute() or len(path.parts) > 1):
            words.add_word(str(path), PATH)


def add_run(words: PrivateWords, folder: Path) -> None:
    """What the record of a run says of its pictures, its prompts and its names."""
    head = _parsed(folder / "job.json", _text(folder / "job.json"))
    about = head.get("about") if isinstance(head, dict) else None
    if isinstance(about, Mapping):
        _add(words, "output_name", about.get("name"))
        _add(words, "trigger", about.get("trigger"))
        base = about.get("base")
        for text in base.values() if isinstance(base, Mapping) else ():
            _add_path(words, _BESIDE_A_FILE.sub("", str(text)), MODEL)
    else:
        for key, value in _pairs(folder / "job.json"):
            if key in _OF_HEAD:
                _add(words, _OF_HEAD[key], value)
    for event in read_lines(folder / "events.jsonl"):
        if isinstance(event, dict):
            _add(words, "prompt", event.get("prompt"))
            _add(words, "output_name", event.get("name"))
            if isinstance(event.get("path"), str):
                _add_path(words, event["path"], NAME)
    for name in ("request.json", "settings.toml", "dataset.toml"):
        for key, value in _pairs(folder / name):
            _add(words, key, value)


def _add(words: PrivateWords, key: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip() or _is_public(key, value):
        return
    value = _BESIDE_A_FILE.sub("", value.strip())
    instead = _KINDS.get(key, PROMPT)
    words.add_phrase(value, instead)
    if instead == TRIGGER:
        words.add_word(value, instead)
        for word in set(re.findall(r"[^\s,]+", value)) - _SMALL:
            words.add_word(word, instead)
    elif key in _KINDS:
        words.add_word(value, instead)
    elif len(value) < LONGEST_PATH and "\n" not in value and (re.search(r"[\\/]", value) or " " not in value):
        _add_path(words, value, PATH)
    prompts = Path(value)
    if key == "sample_prompts" and "\n" not in value and prompts.suffix.lower() in (".txt", ".toml", ".json"):
        words.add_phrase(_text(prompts), PROMPT)


def _add_path(words: PrivateWords, path: str, instead: str) -> None:
    """A path and its last name, which is often told alone, with and without its ending."""
    whole = re.search(r"[\\/]", path)
    last = re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    if whole:
        words.add_word(path, PATH)
    for name in {last, last.rpartition(".")[0]}:
        if len(name) > 2 and name.lower() not in _ORDINARY:
            words.add_word(name, instead)


def _is_public(key: str, value: str) -> bool:
    """True for what was chosen from a list, for a default, and for a number in quotation marks."""
    if key in PUBLIC or re.fullmatch(r"[\d.,;:+e-]*", value):
        return True
    of_key = [option for option in options() if key in (option.key, "")]
    return any(value in option.choices or value in (option.default, option.key) for option in of_key)


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Every text in a JSON or TOML file with its key; of one that is damaged, all that stands in quotation marks."""
    text = _text(path)
    content = _parsed(path, text)
    if content is not None:
        yield from _texts(content)
        return
    for key, double, single in _QUOTED.findall(text):
        yield key, _unescaped(double) or single


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _texts(content: Any) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(str(name), item) for name, item in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(key, item) for item in value]
        elif isinstance(value, str):
            yield key, value


def _parsed(path: Path, text: str) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(text)
        from atelier.config.kohya.toml_text import parse_toml  # not every Python that a report is made with can

        return parse_toml(text, path.name)
    except (ValueError, RecursionError, ImportError, AtelierError):
        return None


def _text(path: Path) -> str:
    """The beginning of a file; "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _full_name(user: str) -> str:
    """What the system calls the person; "" where it does not say."""
    try:
        import pwd

        return pwd.getpwnam(user).pw_gecos.partition(",")[0]
    except (ImportError, KeyError, OSError):
        return ""
