"""The known model families: those that the files of `models/families` offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atelier.config.discovery import offered
from atelier.config.errors import AtelierError
from atelier.models import families as folder
from atelier.models.family import Family, LoadsFolders
from atelier.models.refusals import TRAINABLE, refusal


def families() -> list[Family]:
    """All families, in the order of their names."""
    return offered(folder, "FAMILY")


def family_named(name: str) -> Family:
    """The family called "sd1", "sd2" or "sdxl". Raises `AtelierError` for another name."""
    for family in families():
        if family.name == name:
            return family
    known = ", ".join(family.name for family in families())
    raise AtelierError(f"{name!r} is not a model family; known are {known}.")


def folder_reader(config: Mapping[str, Any]) -> LoadsFolders | None:
    """The family that reads a diffusers folder with a transformer of this configuration; None when none does."""
    return next((it for it in families() if isinstance(it, LoadsFolders) and it.recognise_folder(config)), None)


def recognise(shapes: Mapping[str, Sequence[int]], title: str = "The model") -> Family:
    """The family of a checkpoint from the names and shapes of its tensors.

    Raises `AtelierError` with a sentence about `title` when it is something that cannot be trained.
    """
    try:
        found = next((family for family in families() if family.recognise(shapes)), None)
        said = None if found is not None else refusal(shapes)
    except IndexError as error:  # a shape of fewer dimensions than the tensor of that name has in any model
        raise AtelierError(f"{title} is damaged: its tensors have impossible shapes. Download it again.") from error
    if said is not None:
        raise AtelierError(f"{title} {said}{'' if said.endswith('.') else '.'}")
    if found is not None:
        return found
    raise AtelierError(f"{title} is of an unknown model family. {TRAINABLE}")
