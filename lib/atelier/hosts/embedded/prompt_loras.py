"""Applies the LoRA files of a prompt for one picture. Files are read and prepared only once."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atelier.adapters.applied.apply import AppliedLora, LoraUse, attached, prepare_lora
from atelier.adapters.files.kohya_file import LoRAFile, read_lora
from atelier.hosts.embedded.lora_list import find_lora
from atelier.hosts.embedded.prompt_tags import LoraTag
from atelier.models.family import Parts

KEPT = 8
"""Files kept ready; the one not used for longest goes first."""


@dataclass
class _Ready:
    stamp: tuple[Path, int, int]
    """Path, time of change and size: another file under the same name is read anew."""
    file: LoRAFile
    applied: AppliedLora
    short_hash: str


class PromptLoras:
    """Used inside the host's queue only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: dict[str, _Ready] = {}

    @contextmanager
    def applied(self, tags: Sequence[LoraTag], parts: Parts) -> Iterator[dict[str, str]]:
        """Applies the LoRAs of a prompt inside the `with` block. Yields their short hashes by name.

        Raises `AtelierError` for a name that is not in the list, and for a file that has NaN or does not fit the model.
        """
        ready = [self._get(tag.name, parts) for tag in tags]
        uses = [LoraUse(entry.file, tag.unet, tag.text_encoder) for entry, tag in zip(ready, tags, strict=True)]
        with attached([entry.applied for entry in ready], uses):
            yield {tag.name: entry.short_hash for entry, tag in zip(ready, tags, strict=True)}

    def forget(self) -> None:
        """Drops what is kept, for another model."""
        self._ready.clear()

    def _get(self, name: str, parts: Parts) -> _Ready:
        entry = find_lora(self._folder, name)
        state = entry.path.stat()
        stamp = (entry.path, state.st_mtime_ns, state.st_size)
        kept = self._ready.pop(entry.name, None)
        if kept is None or kept.stamp != stamp:
            file = read_lora(entry.path)
            file.check_finite()
            kept = _Ready(stamp, file, prepare_lora(parts, file), _short_hash(entry.path))
        self._ready[entry.name] = kept
        while len(self._ready) > KEPT:
            del self._ready[next(iter(self._ready))]
        return kept


def _short_hash(path: Path) -> str:
    """The first 12 digits of the SHA-256 of what follows the header: how WebUIs name a LoRA in a picture's text."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        handle.seek(8 + struct.unpack("<Q", handle.read(8).ljust(8, b"\0"))[0])
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:12]
