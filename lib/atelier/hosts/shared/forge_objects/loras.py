"""LoRAs of models kept as `forge_objects`: forgotten, and listed anew."""

from __future__ import annotations

import sys
from typing import Any

from atelier.hosts.shared.forge_objects.model import current

NO_LORAS = str([])
"""What a WebUI notes as the hash of no LoRA."""


def forget_loras(model: Any) -> None:
    """Makes the model one that no LoRA was asked for, as it is after a picture without any."""
    networks = sys.modules.get("networks")
    if networks is not None:
        networks.loaded_networks.clear()
    model.current_lora_hash = NO_LORAS
    model.forge_objects = model.forge_objects_original.shallow_copy()
    model.forge_objects_after_applying_lora = model.forge_objects_original.shallow_copy()


def list_loras_anew() -> Any:
    """Lists the LoRAs, and has the next picture read and merge its own anew: an old name may have a new file.

    Gives the model that it will draw with, None when there is none or the WebUI's LoRA extension is off.
    """
    networks = sys.modules.get("networks")
    if networks is None:
        return None
    networks.list_available_networks()
    networks.load_lora_state_dict.cache_clear()
    model = current()
    if model is not None:
        model.current_lora_hash = ""
    return model
