"""reForge's LoRAs, merged by exchanging the tensors that they change: taken out."""

from __future__ import annotations

import torch

from atelier.hosts.shared.forge_objects.loras import forget_loras
from atelier.hosts.shared.forge_objects.model import current


def remove_loras() -> None:
    """Takes out the LoRAs that the last picture left in the weights. Called inside the queue.

    What a LoRA changed lies in a backup that all patchers of a model share: empty when there is none.
    """
    model = current()
    objects = model.forge_objects_original
    dirty = [patcher for patcher in (objects.unet, objects.clip.patcher) if patcher.backup]
    if not dirty:
        return
    forget_loras(model)
    with torch.inference_mode():
        for patcher in dirty:
            patcher.unpatch_model(patcher.model.device)
