"""The list of families. A new one is a file of its own and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atelier.config.errors import AtelierError
from atelier.models.families.sd1 import SD1
from atelier.models.families.sd2 import SD2
from atelier.models.families.sdxl import SDXL
from atelier.models.family import Family
from atelier.models.refusals import TRAINABLE, refusal

FAMILIES: tuple[Family, ...] = (SD1, SD2, SDXL)


def family_named(name: str) -> Family:
    """The family called "sd1", "sd2" or "sdxl". Raises `AtelierError` for another name."""
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise AtelierError(f"{name!r} is not a model family; known are {known}.")


def recognise(shapes: Mapping[str, Sequence[int]], title: str = "The model") -> Family:
    """The family of a checkpoint from its tensor names (LDM layout) and shapes.

    Raises `AtelierError` with a sentence about `title` when it is something that cannot be trained.
    """
    try:
        said = refusal(shapes)
        found = None if said is not None else next((family for family in FAMILIES if family.recognise(shapes)), None)
    except IndexError as error:  # a shape of fewer dimensions than the tensor of that name has in any model
        raise AtelierError(f"{title} is damaged: its tensors have shapes of no model. Download it again.") from error
    if said is not None:
        raise AtelierError(f"{title} {said}{'' if said.endswith('.') else '.'}")
    if found is not None:
        return found
    raise AtelierError(f"{title} is not a model that is known here. {TRAINABLE}")
