"""What is learnt is what is drawn with: settings of a run that follow the WebUI's, and sentences where they do not."""

from __future__ import annotations

from typing import Any

from atelier.config.settings.schema import Settings, labelled
from atelier.hosts.contract import DrawnWith, Host
from atelier.hosts.powers import drawn_with

OWN_LAYER = {"sd1": 1, "sd2": 1, "sdxl": 2}
"""The layer of its text encoder, counted from the last, that each family was trained on. None later is used."""
ORIGINAL = "Original"
"""The mode of emphasis that `weighted_captions` has."""


def followed(host: Host, family: str | None) -> dict[str, Any]:
    """The recommended settings that come from the WebUI's, by key, for a model of this family."""
    number = drawn_with(host, str(family)).clip_skip
    return {"clip_skip": number} if family in OWN_LAYER and number > OWN_LAYER[family] else {}


def compared(settings: Settings, host: Host, family: str | None) -> list[str]:
    """Sentences about the settings that follow the WebUI's, and about those that differ. None for the usual ones."""
    wanted = followed(host, family)
    same = [key for key, value in wanted.items() if getattr(settings, key) == value]
    said = [f"{labelled(key)} is {wanted[key]}, as in this WebUI's settings." for key in same]
    return [*said, *differences(settings, drawn_with(host, str(family)), family)]


def unlike_drawn(settings: Settings, host: Host) -> list[str]:
    """`differences` for the model that is loaded now."""
    model = host.loaded_model()
    family = model.family if model is not None else None
    return differences(settings, drawn_with(host, str(family)), family)


def differences(settings: Settings, drawn: DrawnWith, family: str | None) -> list[str]:
    """Sentences about the settings of a run on a model of this family that are not those the WebUI draws with."""
    found = [*drawn.unlike]
    own = OWN_LAYER.get(str(family))
    if own is not None and max(settings.clip_skip or own, own) != max(drawn.clip_skip, own):
        held = "empty" if settings.clip_skip is None else settings.clip_skip
        found.append(
            f"{labelled('clip_skip')} is {held}, but this WebUI draws with {max(drawn.clip_skip, own)}: what is learnt "
            "shows less in its pictures. Choose the same in both."
        )
    if settings.weighted_captions and drawn.emphasis != ORIGINAL:
        found.append(
            f"{labelled('weighted_captions')} weighs words as the emphasis mode {ORIGINAL} does, but this WebUI draws "
            f"with the mode {drawn.emphasis}."
        )
    if family == "sdxl" and drawn.crop != (0, 0):
        top, left = drawn.crop
        found.append(
            f"This WebUI draws with SDXL's crop coordinates at top {top}, left {left}. A run tells the model the real "
            "crop of each picture, and its own samples have 0 and 0."
        )
    return found
