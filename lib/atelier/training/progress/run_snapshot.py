"""What a run was begun with, kept in its states: going on with something else is refused, or told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from atelier.config.errors import AtelierError
from atelier.training.context import RunContext


def run_snapshot(context: RunContext, optimizer: str) -> dict[str, Any]:
    """As JSON holds it. `optimizer`: the name of the one that steps, which a plan may have chosen."""
    digest = hashlib.blake2b(digest_size=8)
    for picture in context.data.pictures:
        digest.update(f"{picture.path.name} {picture.size} {picture.repeats}\n".encode("utf-8", "replace"))
    unet, text = context.rates
    return {
        "base": context.base.identity,
        "optimizer": optimizer.lower(),
        "rates": [unet, *text],
        "seed": context.seed,
        "pictures": digest.hexdigest(),
    }


def differences(values: Mapping[str, Any], context: RunContext, optimizer: str) -> list[str]:
    """A sentence for each thing that is another one than in a state's `values`.

    Raises `AtelierError` for one with which nothing can go on.
    """
    kept, now = values.get("begun_with", values), run_snapshot(context, optimizer)
    if kept.get("base", now["base"]) != now["base"]:
        title = context.base.title
        raise AtelierError(
            f"This run was begun on another model than {title}: load that one to go on, or start a new run."
        )
    if "begun_with" not in values:  # of a version that kept no more
        return []
    if kept.get("optimizer", now["optimizer"]) != now["optimizer"]:
        raise AtelierError(
            f"This run was begun with the optimiser {kept['optimizer']}, which remembers other things than "
            f"{now['optimizer']}: go on with that one, or start a new run."
        )
    told = {
        "rates": "The learning rates stay those that the run was begun with, as its schedule goes on.",
        "seed": "The seed is another one than the run was begun with: from here on other noise and batches are drawn.",
        "pictures": "The pictures are not those that the run was begun with: from here on it learns these.",
    }
    return [sentence for key, sentence in told.items() if kept.get(key, now[key]) != now[key]]
