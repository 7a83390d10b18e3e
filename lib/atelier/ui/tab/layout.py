"""The Gradio components of the tab, named by their purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Layout:
    """The components of the tab. `controls`: by the key of their setting."""

    controls: dict[str, Any] = field(default_factory=dict)
    files: Any = None
    train: Any = None
    message: Any = None
    found: Any = None
    reset: Any = None
    from_name: Any = None
    captioner: Any = None
    """Like `describe`, None where the host cannot describe pictures."""
    describe: Any = None
    read_file: Any = None
    write: Any = None
    written: Any = None
    report: Any = None
    gathered: Any = None
    """Connects every control that changes the summary of the pictures with one handler."""
    own_page: Any = None
    """The check that only the WebUI's own page pressed a button."""
    filled: Any = None
    """State: the recommended values that were filled in, by key."""
    kind_note: Any = None
    """The note below the kind of adapter: which WebUIs can use it."""
    checked: Any = None
    """State: the model that the form was last checked for."""
    model_line: Any = None
    """The line below Train that says what it trains on."""
    form: Any = None
    """A hidden field: a form as JSON, which the page's script puts there."""
    fill: Any = None
    """A hidden button: puts that form into the controls."""
    finder: Any = None
    """For searching the settings and resetting one: hidden components that the page's script uses."""
    imported: Any = None
    """State: values without a control, from a file that was read."""
