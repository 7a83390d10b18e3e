"""Protects buttons, so that only the WebUI's own page can press them.

Gradio 3 and 4 do not check where a request comes from: another site that is open in the same browser can call their
handlers with any data. But it cannot read the page, and so does not know the key in it.
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
from atelier.ui.tab.messages import error_html, unexpected

log = logging.getLogger(__name__)
Data = dict[Any, Any]
STALE = "The WebUI was restarted after this page was loaded. Reload the page, then press again."


class OwnPage:
    """The check of the key. Make it inside the running block. `key` stays the same as long as the process runs."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.field = component(gr.Textbox, value=key, elem_id="atelier_page_key", elem_classes="atelier-hidden")

    def only(self, handler: Callable[[Data], Any], message: Any) -> Callable[[Data], Any]:
        """`handler` for callers with the key. The component `message` asks others to reload the page.

        It also shows the errors of a handler that is no generator. `field` must be among the inputs.
        """

        def refused(data: Data) -> Data | None:
            held = str(data.get(self.field) or "")
            return None if secrets.compare_digest(held.encode(), self._key.encode()) else {message: error_html(STALE)}

        def once(data: Data) -> Data:
            try:
                return refused(data) or handler(data)
            except AtelierError as error:
                return {message: error_html(error)}
            except Exception as error:  # a sentence for the page, the traceback for the log
                log.exception("a button failed")
                return {message: error_html(unexpected(error))}

        def in_parts(data: Data) -> Iterator[Data]:
            refusal = refused(data)
            if refusal is not None:
                yield refusal
            else:
                yield from handler(data)

        return in_parts if inspect.isgeneratorfunction(handler) else once
