"""LoRAs of models kept as `forge_objects`: taken out of the weights, forgotten, and listed anew.

A WebUI merges a LoRA by exchanging the tensors that it changes and keeps the old ones. Forge has a loader on the model,
which notes what is merged; reForge and newer Forge Neos have ComfyUI's patchers, with what they replaced in a backup.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from atelier.hosts.shared.forge_objects.model import current

NO_LORAS = str([])
"""What a WebUI notes as the hash of no LoRA."""


def remove_loras() -> None:
    """Takes out the LoRAs that the last picture left in the weights. Called inside the queue.

    To find out whether there are any costs two comparisons.
    """
    model = current()
    changed = [patcher for patcher in patchers_of(model) if is_changed(patcher)]
    if not changed:
        return
    forget_loras(model)
    with torch.inference_mode():
        for patcher in changed:
            if loader_of(patcher) is not None:
                patcher.refresh_loras()
            else:
                patcher.unpatch_model(patcher.model.device)


def publish_lora() -> None:
    """Lists the LoRAs, and has the next picture read and merge its own anew: an old name may have a new file.

    Nothing more where the WebUI's LoRA extension is off or no model is loaded.
    """
    networks = sys.modules.get("networks")
    if networks is None:
        return
    networks.list_available_networks()
    clear = getattr(networks.load_lora_state_dict, "cache_clear", None)
    if clear is not None:  # Forge Neo keeps no file in memory
        clear()
    model = current()
    if model is None:
        return
    model.current_lora_hash = ""
    for patcher in patchers_of(model):
        loader = loader_of(patcher)
        if loader is not None and loader.loaded_hash != NO_LORAS:
            loader.loaded_hash = ""  # what is merged now may be the older file: the next picture takes it out


def patchers_of(model: Any) -> list[Any]:
    """Those of the model that a LoRA can change: the UNet's and the text encoders'."""
    objects = model.forge_objects_original
    return [objects.unet, objects.clip.patcher]


def loader_of(patcher: Any) -> Any:
    """The loader on the patcher's model that merges LoRAs, None where the patcher does it."""
    return getattr(patcher.model, "lora_loader", None)


def is_changed(patcher: Any) -> bool:
    """True when LoRAs are merged into the patcher's model."""
    loader = loader_of(patcher)
    return bool(patcher.backup) if loader is None else loader.loaded_hash != NO_LORAS


def forget_loras(model: Any) -> None:
    """Makes the model one that no LoRA was asked for, as it is after a picture without any."""
    networks = sys.modules.get("networks")
    if networks is not None:
        networks.loaded_networks.clear()
    model.current_lora_hash = NO_LORAS
    model.forge_objects = model.forge_objects_original.shallow_copy()
    model.forge_objects_after_applying_lora = model.forge_objects_original.shallow_copy()
