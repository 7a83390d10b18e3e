"""The WebUI's own captioners: BLIP for sentences, DeepBooru for tags."""

from __future__ import annotations

import sys
from typing import Any

from PIL import Image

from atelier.config.errors import AtelierError

BLIP = "BLIP"
DEEPBOORU = "DeepBooru"
FAILED = "<error>"
"""What the WebUI ends a description with that went wrong; the reason is on its console."""


def captioners() -> tuple[str, ...]:
    """Those that this WebUI has. Their weights are fetched by the WebUI at the first use, as on its img2img page."""
    found = []
    if callable(getattr(_interrogator(), "interrogate", None)):
        found.append(BLIP)
    if "modules.deepbooru" in sys.modules:  # the WebUI's page imports it where there is one
        found.append(DEEPBOORU)
    return tuple(found)


def caption(picture: Image.Image, captioner: str) -> str:
    """A sentence by BLIP, or tags by DeepBooru, as a caption file has them. To be called inside the WebUI's queue.

    Raises `AtelierError` when the WebUI could not do it.
    """
    if captioner == BLIP:
        text = str(_interrogator().interrogate(picture))
        if FAILED in text:
            raise AtelierError("BLIP could not describe the picture. The WebUI's console says why.")
        return text.strip()
    from modules import deepbooru

    # The prompt box needs \\( where a caption has (, and no strengths.
    try:
        deepbooru.model.start()
        try:
            text = deepbooru.model.tag_multi(picture, force_disable_ranks=True)
        finally:
            deepbooru.model.stop()
    except Exception as error:  # a missing download, too little memory: the WebUI's code, in whatever way it fails
        raise AtelierError(f"DeepBooru could not describe the picture: {error}") from error
    return str(text).replace("\\(", "(").replace("\\)", ")").strip()


def _interrogator() -> Any:
    from modules import shared

    return getattr(shared, "interrogator", None)
