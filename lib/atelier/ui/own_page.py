"""Buttons that the WebUI's own page alone can press.

Gradio 3 and 4 do not ask where a request comes from: another site that is open in the same browser can have their
handlers called with anything. It cannot read the page, though, and so does not know the key that lies in it.
"""

from __future__ import annotations

import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from atelier.config.errors import AtelierError
from atelier.ui.gradio_compat import component
from atelier.ui.tab.actions import error_html, unexpected

log = logging.getLogger(__name__)
Data = dict[Any, Any]
STALE = "This page is older than the WebUI's last start. Reload it, then press again."


class OwnPage:
    """Made inside the running block, with a key that lasts as long as the process."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.field = component(gr.Textbox, value=key, elem_id="atelier_page_key", elem_classes="atelier-hidden")

    def only(self, handler: Callable[[Data], Any], message: Any) -> Callable[[Data], Any]:
        """`handler` for callers that have the key; others are told, in the component `message`, to reload the page.

        So are the errors of a handler that answers once. `field` has to be among the inputs.
        """

        def told(data: Data) -> Data | None:
            held = str(data.get(self.field) or "")
            return None if secrets.compare_digest(held.encode(), self._key.encode()) else {message: error_html(STALE)}

        def once(data: Data) -> Data:
            try:
                return told(data) or handler(data)
            except AtelierError as error:
                return {message: error_html(str(error))}
            except Exception as error:  # a sentence for the page, the traceback for the log
                log.exception("a button failed")
                return {message: error_html(unexpected(error))}

        def in_parts(data: Data) -> Iterator[Data]:
            refused = told(data)
            if refused is not None:
                yield refused
            else:
                yield from handler(data)

        return in_parts if inspect.isgeneratorfunction(handler) else once
