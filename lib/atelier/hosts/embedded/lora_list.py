"""The list of LoRAs with their previews and activation texts, read from the folder each time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from atelier.config.errors import AtelierError, few

PREVIEWS = (".preview.png", ".png", ".preview.jpg", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class LoraEntry:
    """One card. `name` is what goes into the tag; `changed` is the file's time of change in nanoseconds."""

    name: str
    path: Path
    preview: Path | None
    activation_text: str
    weight: float
    changed: int


def list_loras(folder: Path) -> list[LoraEntry]:
    """Every .safetensors under `folder`, newest first. Of two files of one name the first path is taken."""
    entries: dict[str, LoraEntry] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        if path.name.startswith(".") or path.stem in entries:
            continue
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue  # removed between the listing and now
        text, weight = _sidecar(path.with_suffix(".json"))
        entries[path.stem] = LoraEntry(path.stem, path, preview_of(path), text, weight, changed)
    return sorted(entries.values(), key=lambda entry: (-entry.changed, entry.name))


def find_lora(folder: Path, name: str) -> LoraEntry:
    """The LoRA of that name, upper and lower case alike. Raises `AtelierError` that names the nearest ones."""
    entries = list_loras(folder)
    for same in (lambda entry: entry.name == name, lambda entry: entry.name.lower() == name.lower()):
        for entry in entries:
            if same(entry):
                return entry
    known = few(sorted(entry.name for entry in entries), 10) or "none yet"
    raise AtelierError(f"There is no LoRA named {name!r} in the list. The list has: {known}.")


def preview_of(path: Path) -> Path | None:
    """The picture that lies beside a LoRA file, if one does."""
    for ending in PREVIEWS:
        picture = path.with_name(path.stem + ending)
        if picture.is_file():
            return picture
    return None


def _sidecar(path: Path) -> tuple[str, float]:
    """Activation text and preferred weight of the JSON beside a LoRA; ("", 1.0) when it says nothing usable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "", 1.0
    if not isinstance(content, dict):
        return "", 1.0
    text, weight = content.get("activation text"), content.get("preferred weight")
    if not isinstance(weight, (int, float)) or isinstance(weight, bool) or weight == 0:
        weight = 1.0
    return (text if isinstance(text, str) else ""), float(weight)
