"""Folders that lie beside or below those that are used, and how they must be named to be used."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier.config.datasets import repeats_and_class
from atelier.data.endings import readable

MOST_FOLDERS = 500
"""Folders that are looked into. A folder with more of them is no folder of pictures."""
_LISTED = 6
_PASSED_OVER = ("__macosx", "@eadir", "$recycle.bin", "thumbs", "__pycache__")


@dataclass(frozen=True)
class Below:
    """A folder one level down: its name and how many pictures lie in it. `numbered`: those with pictures in it that
    are named like 10_dog."""

    name: str
    pictures: int
    numbered: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.pictures} {'picture' if self.pictures == 1 else 'pictures'})"


def below(folder: Path) -> list[Below]:
    """The folders in `folder` with pictures in them, or in numbered folders one level further down."""
    found = []
    for path in _folders(folder):
        count = count_pictures(path)
        numbered = () if count else tuple(
            inner.name for inner in _folders(path) if repeats_and_class(inner.name) and count_pictures(inner)
        )  # fmt: skip
        if count or numbered:
            found.append(Below(path.name, count, numbered))
    return found


def count_pictures(folder: Path) -> int:
    """The number of files in `folder` that have a picture's ending; 0 for a folder that cannot be listed."""
    endings = readable()
    try:
        with os.scandir(folder) as entries:
            return sum(
                not entry.name.startswith(".") and entry.name.lower().endswith(endings) and entry.is_file()
                for entry in entries
            )
    except OSError:
        return 0


def well_named(name: str) -> str:
    """How a folder must be named so that its pictures are used: "dog" -> "10_dog", "dog 5" -> "5_dog"."""
    for pattern in (r"(?P<n>\d{1,4})[\s\-.x]+(?P<c>\D.*)", r"(?P<c>.+?)[\s_\-.x]+(?P<n>\d{1,4})"):
        match = re.fullmatch(pattern, name)
        if match:
            return f"{int(match['n']) or 10}_{match['c'].strip(' _-')}"
    return f"10_{name.lstrip('_ ') or name}"


def nothing_in(folder: Path, by_name: bool) -> str:
    """What lies one level below a folder without pictures, as a sentence; "" when there is nothing.

    `by_name`: the folder was given as train_data_dir, so that names of folders count; else it is an image_dir.
    """
    found = below(folder)
    holding = [inner for inner in found if inner.pictures]
    deeper = [inner for inner in found if inner.numbered]
    if holding and by_name:
        names = ", ".join(dict.fromkeys(well_named(inner.name) for inner in holding[:_LISTED]))
        them = "it" if len(holding) == 1 else "them"
        return (
            f"The pictures lie one level down, in {_listed(holding)}, and a folder counts only with a number of "
            f"repeats in front of its name: call {them} {names}, or choose one of them."
        )
    if holding:
        return f"The pictures lie one level down, in {_listed(holding)}: give each of these folders as an image_dir."
    if deeper:
        first = deeper[0]
        where = folder / first.name
        return f"There are folders named like {first.numbered[0]} in {where}: choose that folder."
    return ""


def passed_over(parent: Path, used: Collection[Path]) -> list[str]:
    """Sentences about pictures in `parent` and one level below it that are not used, though others there are."""
    if parent in used:
        names = [inner for inner in below(parent) if inner.pictures]
        if not names:
            return []
        return [
            f"{parent}: the folders in it are not used: {_listed(names)}. To train them too, put all pictures into "
            f"folders named like {well_named(names[0].name)} (repeats_class)."
        ]
    told = []
    names = [inner for inner in below(parent) if inner.pictures and parent / inner.name not in used]
    for inner in names[:_LISTED]:
        told.append(
            f"{parent / inner.name}: {_pictures_are(inner.pictures)} not used, since the folder's name has no number "
            f"of repeats in front. Call it {well_named(inner.name)} to train it."
        )
    if len(names) > _LISTED:
        told.append(f"{parent}: {len(names) - _LISTED} more folders are not used for the same reason.")
    loose = count_pictures(parent)
    if loose:
        told.append(
            f"{parent}: {_pictures_are(loose)} not used, since the folder has folders named like 10_dog in it. Move "
            f"{'it' if loose == 1 else 'them'} into one of these."
        )
    return told


def _pictures_are(count: int) -> str:
    return "1 picture is" if count == 1 else f"{count} pictures are"


def _listed(folders: Sequence[Below]) -> str:
    shown = ", ".join(map(str, folders[:_LISTED]))
    return shown if len(folders) <= _LISTED else f"{shown} and {len(folders) - _LISTED} more"


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []
    names = [name for name in sorted(names) if name[0] != "." and name.lower() not in _PASSED_OVER]
    return [folder / name for name in names[:MOST_FOLDERS]]
