"""Forge's LoRAs, merged by exchanging the tensors that they change: taken out, and read anew."""

from __future__ import annotations

from atelier.hosts.shared.forge_objects.loras import NO_LORAS, forget_loras, list_loras_anew
from atelier.hosts.shared.forge_objects.model import current


def remove_loras() -> None:
    """Takes out the LoRAs that the last picture left in the weights. Called inside the queue.

    Forge keeps the tensors that it exchanged; it notes on the model which LoRAs are in it, so that asking costs two
    comparisons.
    """
    model = current()
    patchers = [model.forge_objects_original.unet, model.forge_objects_original.clip.patcher]
    if all(patcher.model.lora_loader.loaded_hash == NO_LORAS for patcher in patchers):
        return
    forget_loras(model)
    for patcher in patchers:
        patcher.refresh_loras()


def publish_lora() -> None:
    """Lists the LoRAs, and makes Forge read and merge them anew: a file may be an older one's under the same name."""
    model = list_loras_anew()
    if model is None:
        return
    objects = model.forge_objects_original
    for loader in (objects.unet.model.lora_loader, objects.clip.patcher.model.lora_loader):
        if loader.loaded_hash != NO_LORAS:
            loader.loaded_hash = ""  # what is merged now may be the older file: the next picture takes it out
