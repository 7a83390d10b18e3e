"""Pictures that are enlarged a lot before they are learned from."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.config.settings.schema import labelled
from atelier.data.scan import Picture

TOO_MUCH = 1.5
"""Pictures that are enlarged more than this, on each side, are told. Less is hardly seen."""


def enlarged_sentence(pictures: Sequence[Picture]) -> str:
    """How many pictures are enlarged too much, the worst of them, and what to do; "" when there is none."""
    found = [(picture.resized[0] / max(picture.size[0], 1), picture) for picture in pictures]
    factor, worst = max(found, key=lambda one: one[0], default=(0.0, None))
    count = sum(one[0] > TOO_MUCH for one in found)
    if worst is None or not count:
        return ""
    width, height = worst.size
    several = f"{count} of {len(pictures)} pictures are" if len(pictures) > 1 else "The picture is"
    which = f"the smallest, {worst.path.name} ({width}×{height}), {factor:.3g} times" if count > 1 else (
        f"{worst.path.name} ({width}×{height}), {factor:.3g} times"
    )  # fmt: skip
    return (
        f"{several} enlarged to fit the resolution: {which}. What is learned from them looks blurred or blocky. Use "
        f"larger pictures, lower {labelled('resolution')}, or turn on {labelled('bucket_no_upscale')}."
    )
