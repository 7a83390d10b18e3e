"""The note below the kind of adapter: which WebUIs can use the chosen kind, this one first."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from atelier.adapters.usable import kind_remark, kind_text
from atelier.config.errors import AtelierError
from atelier.config.kohya.network_args import ignored_arguments
from atelier.ui.fields import collect

KIND = ("network_module", "network_args", "conv_dim", "train_whole_model")
"""Settings that decide what kind of file a run makes."""


def kind_html(held: Mapping[str, Any], host: str) -> str:
    """The note for the contents of the controls `KIND`, in the WebUI named `host`; "" when there is nothing to say."""
    try:
        settings = collect(held)
        ignored = (
            [] if settings.train_whole_model else ignored_arguments(settings.network_module, settings.network_args)
        )
        text = " ".join((*ignored, kind_text(settings, host))).strip()
        warns = bool(ignored) or kind_remark(settings, host) is not None
    except AtelierError as error:
        text, warns = str(error), True
    kind = "atelier-error" if warns else "atelier-quiet"
    return f'<p class="{kind}" role="status">{html.escape(text)}</p>' if text else ""
