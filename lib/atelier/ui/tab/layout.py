"""The components of the tab, by what they are for."""

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
    """With `describe`: None where the host has nothing that describes pictures."""
    describe: Any = None
    read_file: Any = None
    write: Any = None
    written: Any = None
    report: Any = None
    gathered: Any = None
    """The one handler of everything that changes what is found."""
    own_page: Any = None
    """What only the WebUI's own page can press."""
    filled: Any = None
    """State: what the preset filled in, by key."""
    kind_note: Any = None
    """Beneath the kind of adapter: which WebUIs can use it."""
    imported: Any = None
    """State: what a file that was read in says and no control holds."""
