"""The texts that the tab and the panel show: those that a localisation file may speak of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from atelier.config.settings.option import GROUPS
from atelier.jobs.queue import Jobs
from atelier.ui.fields import shown_options
from atelier.ui.tab.advanced import TITLES
from atelier.ui.tab.tab import build
from tests.support.jobs_fakes import FakeHost

_STRING = r'"(?:[^"\\]|\\.)*"'
_WORD = re.compile(rf"^ +(?:{_STRING}|\w+):\s*({_STRING}(?:\s*\+\s*{_STRING})*),$", re.MULTILINE)
_TAG = re.compile(r"<[^>]*>|\*\*")
SPEAKING = ("jobs", "training", "ui")
"""Packages of lib/atelier that make sentences for the page."""


def panel_words(root: Path) -> list[str]:
    """The words of the live panel, in their order."""
    return [_joined(found) for found in _WORD.findall(_halves(root)[0])]


def server_sentences(root: Path) -> list[str]:
    """The templates by which the page finds the server's sentences."""
    return [_joined(found) for found in re.findall(_STRING, _halves(root)[1])]


def _halves(root: Path) -> tuple[str, str]:
    text = (root / "javascript" / "atelier_1_words.js").read_text("utf-8")
    words, sentences = text.split("const SENTENCES")
    return words.split("const WORDS")[1], sentences.split("];")[0]


def _joined(literals: str) -> str:
    return "".join(ast.literal_eval(found) for found in re.findall(_STRING, literals))


def labels() -> list[str]:
    """The labels of the settings that the tab shows, and the titles of their sections."""
    shown = shown_options()
    groups = [group for group in GROUPS if group != "Basics" and any(option.group == group for option in shown)]
    return [*(TITLES.get(group, group) for group in groups), *(option.label for option in shown)]


def tab_texts(folder: Path) -> list[str]:
    """What the tab's components are called and say: whole text nodes of the page."""
    host = FakeHost(folder)
    jobs = Jobs(host, lambda *_: None)
    with gr.Blocks() as page:
        build(jobs, host)
    jobs.close(timeout=30)
    loaded = host.loaded_model()
    assert loaded is not None
    of_the_host = f"Trains on {loaded.title}."
    unseen = {id(made) for block in page.blocks.values() if _is_hidden(block) for made in _below(block)}
    texts = [text for made in page.blocks.values() if id(made) not in unseen for text in _texts_of(made)]
    found = [text for text in texts if text != of_the_host]
    return list(dict.fromkeys(text for text in found if re.search("[A-Za-z]", text)))


def _is_hidden(made: object) -> bool:
    return "atelier-hidden" in (getattr(made, "elem_classes", None) or [])


def _below(made: object) -> Iterator[object]:
    yield made
    for child in getattr(made, "children", []):
        yield from _below(child)


def _texts_of(made: object) -> Iterator[str]:
    for name in ("label", "info"):
        text = getattr(made, name, None)
        if isinstance(text, str):
            yield " ".join(text.split())
    value = getattr(made, "value", None)
    if isinstance(made, (gr.Button, gr.HTML, gr.Markdown)) and isinstance(value, str):
        yield from (" ".join(part.split()) for part in _TAG.split(value) if part.strip())


def sentences_of(root: Path) -> set[str]:
    """The constant texts and f-strings of the modules that speak to the page; {} for each value in an f-string."""
    files = [path for name in SPEAKING for path in sorted((root / "lib" / "atelier" / name).rglob("*.py"))]
    files.append(root / "scripts" / "atelier.py")  # the title of the tab
    return {text for path in files for text in _texts_in(ast.parse(path.read_text("utf-8")))}


def _texts_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
            yield from (part.strip() for part in _TAG.split(node.value))
