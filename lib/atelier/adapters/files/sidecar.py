"""The files beside a LoRA: NAME.json, which WebUIs show on the LoRA's card, and the preview NAME.png."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from atelier.adapters.files.kohya_file import write_atomically

PREVIEW_SIDE = 768
"""Longest side of a preview in pixels."""


@dataclass(frozen=True)
class Sidecar:
    """The fields that AUTOMATIC1111 and Forge know. `card_version` is a `Family`'s.

    SD.Next shows the activation text as a tag on the card, which a click puts into the prompt.
    """

    activation_text: str = ""
    preferred_weight: float = 1.0
    card_version: str = "Unknown"
    description: str = ""
    notes: str = ""
    negative_text: str = ""


def write_sidecar(lora: Path, sidecar: Sidecar) -> Path:
    """Writes NAME.json beside `lora`; other keys of an existing file stay. Raises `AtelierError`."""
    path = lora.with_suffix(".json")
    content = read_json(path)
    content |= {
        "description": sidecar.description,
        "sd version": sidecar.card_version,
        "activation text": sidecar.activation_text,
        "tags": [sidecar.activation_text] if sidecar.activation_text else [],
        "preferred weight": sidecar.preferred_weight,
        "negative text": sidecar.negative_text,
        "notes": sidecar.notes,
    }
    write_atomically(path, json.dumps(content, indent=4, ensure_ascii=False).encode("utf-8"), overwrite=True)
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a sidecar file; empty when the file is missing or unreadable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_preview(lora: Path, picture: Image.Image) -> Path:
    """Writes NAME.png beside `lora`, at most `PREVIEW_SIDE` pixels per side. Raises `AtelierError`."""
    picture = picture.convert("RGB")
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    path = lora.with_suffix(".png")
    write_atomically(path, buffer.getvalue(), overwrite=True)
    return path
