"""What Forge says of its model, and how it is made to load the one that is chosen."""

from __future__ import annotations

import hashlib
from typing import Any

from atelier.config.errors import AtelierError
from atelier.hosts.shared.a1111_kind import queue
from atelier.hosts.shared.forge_objects.model import Facts


def facts_of(model: Any) -> Facts:
    """What the trainer has to know of a loaded engine."""
    from modules import sd_models

    unet = model.forge_objects.unet.model
    # Names the VAE and text encoders put in, and the type that the weights are kept in.
    choices = hashlib.sha256(str(sd_models.model_data.forge_hash).encode()).hexdigest()[:12]
    return Facts(
        prediction_type=str(getattr(unet.predictor, "prediction_type", "epsilon")),
        zero_terminal_snr=bool(getattr(model.model_config, "ztsnr", False)),
        storage=unet.storage_dtype,
        loaded_as=f"{model.sd_model_hash}:{choices}",
    )


def load_chosen() -> None:
    """Loads the checkpoint that is chosen on the page: Forge would do it only at the next picture.

    Takes the queue. Raises `AtelierError` when it cannot be loaded.
    """
    from modules import sd_models

    with queue():
        try:
            sd_models.forge_model_reload()
        except ValueError as error:  # Forge's own sentences: no model there, or of no known kind
            raise AtelierError(f"Forge could not load the chosen checkpoint: {error}") from error
