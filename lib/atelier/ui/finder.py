"""What the page's script needs to search the settings, to list those that were changed, and to reset one of them."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from atelier.config.settings.option import Option
from atelier.config.settings.schema import option, options
from atelier.ui.fields import SIMPLE, from_control, section_id, to_control
from atelier.ui.gradio_compat import component

SEARCH = (
    '<div class="atelier-finder"><label for="atelier_search">Search all settings</label>'
    '<input id="atelier_search" type="search" autocomplete="off" spellcheck="false" '
    'placeholder="name, key or help, such as rank or lr_scheduler" aria-describedby="atelier_search_told">'
    '<p id="atelier_search_told" role="status"></p><div id="atelier_changed_area"></div></div>'
)
"""The search field, with places that the page's script fills."""


@dataclass(frozen=True)
class Finder:
    """The hidden components: what the script is told, and the key of a setting.

    With a key there, the button that resets all settings resets that one alone: an event of its own would name every
    control once more, which makes the pages of Gradio 3 slow.
    """

    told: Any
    key: Any

    @classmethod
    def make(cls) -> Finder:
        """Makes them inside the running block."""
        return cls(
            gr.HTML(told_html({}, {}), elem_id="atelier_told"),
            component(gr.Textbox, value="", label="A setting's key", elem_id="atelier_reset_key"),
        )


def for_page(found: Option) -> dict[str, Any]:
    """A setting as JSON: as it is declared, the default as its control holds it, and the section that has it."""
    more = {"content": to_control(found, found.default), "section": ""}
    if found.shown and found.key not in SIMPLE:
        more["section"] = section_id(found)
    return {**dataclasses.asdict(found), **more}


def told_html(held: Mapping[str, Any], filled: Mapping[str, Any]) -> str:
    """HTML that tells the script what is recommended and what was changed, by key.

    `held` has the contents of the controls, `filled` the recommended values that differ from the defaults.
    """
    known = {found.key for found in options()}
    told = {
        "recommended": {key: value for key, value in filled.items() if key in known},
        "changed": changed_by_hand(held, filled),
    }
    return f'<div data-told="{html.escape(json.dumps(told))}"></div>'


def changed_by_hand(held: Mapping[str, Any], filled: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of the controls that hold another value than the recommended one, without the four fields."""
    known = {found.key: found for found in options() if found.key not in SIMPLE}
    return {
        key: content
        for key, content in held.items()
        if key in known and not _same(known[key], content, _recommended(known[key], filled))
    }


def recommended(key: str, filled: Mapping[str, Any]) -> Any:
    """The recommended content of a control: what the presets fill in, else its default."""
    return _recommended(option(key), filled)


def _recommended(found: Option, filled: Mapping[str, Any]) -> Any:
    return filled.get(found.key, to_control(found, found.default))


def _same(found: Option, content: Any, other: Any) -> bool:
    """True for contents that mean the same value, such as 1e-4 and 0.0001."""
    if content == other:
        return True
    try:
        return bool(from_control(found, content) == from_control(found, other))
    except ValueError:
        return False
