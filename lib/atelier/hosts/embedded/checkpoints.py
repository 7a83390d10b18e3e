"""Lists the checkpoints that can be chosen on the page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".safetensors", ".ckpt")


@dataclass(frozen=True)
class CheckpointFile:
    """One line of the dropdown. `path` is a file, or a diffusers folder."""

    title: str
    path: Path


def list_checkpoints(folder: Path, others: list[Path]) -> list[CheckpointFile]:
    """Single files and diffusers folders under `folder`, by name, then `others` (as far as they exist).

    Files beginning with a dot are left out, and so are VAEs that lie beside a checkpoint (`name.vae.safetensors`).
    """
    found: list[CheckpointFile] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        if here != folder and (here / "model_index.json").is_file():
            found.append(CheckpointFile(here.relative_to(folder).as_posix(), here))
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.startswith(".") or not name.lower().endswith(SUFFIXES) or ".vae." in name.lower():
                continue
            found.append(CheckpointFile((here / name).relative_to(folder).as_posix(), here / name))
    found.sort(key=lambda entry: entry.title.lower())
    known = {entry.path.resolve() for entry in found}
    titles = {entry.title for entry in found}
    for path in others:
        if path.resolve() in known or not path.exists():
            continue
        title = path.name if path.name not in titles else str(path)
        found.append(CheckpointFile(title, path))
        known.add(path.resolve())
        titles.add(title)
    return found
