"""The extension's entry point: a WebUI runs this file at its start and whenever it builds its page.

It adds lib/ to the path, finds the adapter for this WebUI, and registers the tab and the routes. Everything that lasts
longer than a page is in the package, which the WebUI keeps imported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

LIB = str(Path(__file__).resolve().parent.parent / "lib")
if LIB not in sys.path:
    sys.path.append(LIB)

from modules import script_callbacks, shared  # noqa: E402 - the WebUI's own, after the path is set

from atelier.ui.extension import Extension  # noqa: E402

TITLE = "Train LoRA"
"""Not "Train": AUTOMATIC1111 has a tab of that name, for textual inversion and hypernetworks."""


def on_ui_tabs() -> list[tuple[Any, str, str]]:
    """The training tab, or a tab that says why there is none."""
    return [(Extension.open().tab(shared.cmd_opts), TITLE, "atelier")]


def on_app_started(page: Any, app: Any) -> None:
    """The routes behind the live panel."""
    Extension.open().add_routes(app, shared.cmd_opts)


script_callbacks.on_ui_tabs(on_ui_tabs)
script_callbacks.on_app_started(on_app_started)
