"""Buttons that the WebUI's own page alone can press.

Gradio 3 and 4 do not ask where a request comes from: another site that is open in the same browser can have their
handlers called with anything. It cannot read the page, though, and so does not know the key that lies in it.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from atelier.ui.actions import error_html
from atelier.ui.gradio_compat import component

Data = dict[Any, Any]
STALE = "This page is older than the WebUI's last start. Reload it, then press again."


class OwnPage:
    """Made inside the running block, with a key that lasts as long as the process."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.field = component(gr.Textbox, value=key, elem_id="atelier_page_key", elem_classes="atelier-hidden")

    def only(self, handler: Callable[[Data], Any], message: Any) -> Callable[[Data], Any]:
        """`handler` for callers that have the key; others are told, in the component `message`, to reload the page.

        `field` has to be among the inputs.
        """

        def told(data: Data) -> Data | None:
            held = str(data.get(self.field) or "")
            return None if secrets.compare_digest(held.encode(), self._key.encode()) else {message: error_html(STALE)}

        def once(data: Data) -> Data:
            return told(data) or handler(data)

        def in_parts(data: Data) -> Iterator[Data]:
            refused = told(data)
            if refused is not None:
                yield refused
            else:
                yield from handler(data)

        return in_parts if inspect.isgeneratorfunction(handler) else once
