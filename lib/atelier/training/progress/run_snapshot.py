"""A snapshot of what a run was started with, kept in its states. Changes are refused or reported on resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from atelier.config.errors import AtelierError
from atelier.training.context import RunContext


def run_snapshot(context: RunContext, optimizer: str) -> dict[str, Any]:
    """The snapshot, as plain data for JSON. `optimizer`: the one in use, which a memory plan may have chosen."""
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
        "vae": "" if context.vae is None else context.vae.identity,
    }


def differences(values: Mapping[str, Any], context: RunContext, optimizer: str) -> list[str]:
    """A sentence for each difference between this run and a state's `values`.

    Raises `AtelierError` for a difference with which the run cannot be resumed.
    """
    kept, now = values.get("begun_with", values), run_snapshot(context, optimizer)
    if kept.get("base", now["base"]) != now["base"]:
        title = context.base.title
        raise AtelierError(
            f"This run was started on another model than {title}. Load that model to go on, or start a new run."
        )
    if "begun_with" not in values:  # the state of an older version
        return []
    if kept.get("optimizer", now["optimizer"]) != now["optimizer"]:
        raise AtelierError(
            f"This run was started with the optimizer {kept['optimizer']}, whose state {now['optimizer']} cannot use. "
            f"Choose {kept['optimizer']} to go on, or start a new run."
        )
    sentences = {
        "rates": "The learning rates stay those of the run's start, since its schedule goes on.",
        "seed": "The seed differs from that of the run's start. From now on noise and batches differ.",
        "pictures": "The pictures differ from those of the run's start. From now on the run learns these.",
        "vae": "The VAE differs from that of the run's start. From now on pictures are encoded with this one.",
    }
    return [sentence for key, sentence in sentences.items() if kept.get(key, now[key]) != now[key]]
