"""Messages below Train as HTML. Each says for the page's script what it speaks of, so that it can go with that."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence

from atelier.config.errors import FieldError, SettingsError
from atelier.config.settings.schema import option, options
from atelier.ui.fields import SIMPLE, section_id

_NUMBERS = itertools.count(1)
"""Makes each message another text than the one before: Gradio shows nothing new for the same text."""


def error_html(error: str | Exception) -> str:
    """An error; screen readers read it out at once. The page marks the fields that it names, until one is changed."""
    keys = _keys(error)
    places = " ".join(f"{key}@{'' if key in SIMPLE else section_id(option(key))}" for key in keys)
    more = f' data-keys="{html.escape(places)}"' if places else ""
    return _html("error", "alert", "form", str(error), more)


def ok_html(text: str) -> str:
    """Something that went well. It goes when the form is changed."""
    return _html("ok", "status", "form", text)


def run_html(text: str, job_id: str, states: Sequence[str]) -> str:
    """What is true of a run as long as it is in one of these `states`."""
    return _html("ok", "status", "run", text, f' data-run="{html.escape(job_id)}" data-states="{" ".join(states)}"')


def unexpected(error: Exception) -> str:
    """A sentence for a fault of ours. The caller writes the traceback to the WebUI's console."""
    return (
        f"Something unexpected went wrong ({type(error).__name__}: {error}). The WebUI's console has the details. "
        "Please report it as an issue, with those lines."
    )


def _html(look: str, role: str, of: str, text: str, more: str = "") -> str:
    number = next(_NUMBERS)
    return f'<p class="atelier-{look}" role="{role}" data-of="{of}" data-at="{number}"{more}>{html.escape(text)}</p>'


def _keys(error: str | Exception) -> list[str]:
    """The settings with a control that an error is about."""
    if isinstance(error, SettingsError):
        named = [problem.key for problem in error.problems if not problem.source]
    else:
        named = [error.key] if isinstance(error, FieldError) else []
    shown = {found.key for found in options() if found.shown}
    return list(dict.fromkeys(key for key in named if key in shown))
