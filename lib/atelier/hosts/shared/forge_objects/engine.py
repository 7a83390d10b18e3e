"""Forge's and Forge Neo's engines: what they say of their model, and how they are made to load the one chosen."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from atelier.config.errors import AtelierError
from atelier.hosts.shared.a1111_kind import queue
from atelier.hosts.shared.forge_objects.facts import Facts

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""Where an object lies in memory, in Python's own words for it."""


def facts_of(model: Any) -> Facts:
    """What the trainer has to know of a loaded engine."""
    from modules import sd_models

    unet = model.forge_objects.unet.model
    # Names the VAE and text encoders put in, and the type that the weights are kept in. The list's entry of the
    # checkpoint is in it too, another object whenever the list is read anew.
    chosen = ADDRESS.sub("", str(sd_models.model_data.forge_hash))
    return Facts(
        prediction_type=str(getattr(unet.predictor, "prediction_type", "epsilon")),
        zero_terminal_snr=bool(getattr(model.model_config, "ztsnr", False)),
        storage=unet.storage_dtype,
        loaded_as=f"{model.sd_model_hash}:{hashlib.sha256(chosen.encode()).hexdigest()[:12]}",
    )


def load_chosen(title: str) -> None:
    """Loads the checkpoint that is chosen on the page: the WebUI called `title` would do it only at the next picture.

    Takes the queue. Raises `AtelierError` when it cannot be loaded.
    """
    from modules import sd_models

    with queue():
        try:
            sd_models.forge_model_reload()
        except Exception as error:  # no model there, of no known kind, or damaged: the WebUI's code, in any way
            raise AtelierError(f"{title} could not load the chosen checkpoint: {error}") from error
