"""Removes LoRAs that A1111 merged into the weights for a picture, and lists new LoRA files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from atelier.hosts.a1111.model import current, text_module
from atelier.hosts.shared.a1111_kind import queue


def remove_loras() -> None:
    """Takes out the LoRAs that the last picture left in the weights. Called inside the queue.

    The WebUI notes on every layer which LoRAs are merged into it, so checking costs only a loop over the layers.
    """
    networks = sys.modules.get("networks")
    if networks is None:
        return
    model = current()
    if model is None:
        return
    dirty = [module for module in layers_with_networks(model) if module.network_current_names != ()]
    if not dirty:
        return
    networks.loaded_networks.clear()
    with torch.no_grad():
        for module in dirty:
            networks.network_apply_weights(module)


def publish_lora(path: Path) -> None:
    """Lists the LoRA, and makes the WebUI read it anew if it has an older file of that name in memory.

    What the WebUI notes on a layer is the names and weights of its LoRAs, so new bytes under an old name would
    not be put into a layer that still holds the old ones: those layers are cleaned.
    """
    networks = sys.modules.get("networks")
    if networks is None:
        return
    networks.list_available_networks()
    if networks.networks_in_memory.pop(path.stem, None) is not None:
        with queue():
            remove_loras()


def layers_with_networks(model: Any) -> list[Any]:
    """Every layer of the UNet and text encoders on which the Lora extension has noted something."""
    return [
        module
        for root in (model.model.diffusion_model, text_module(model))
        for module in root.modules()
        if hasattr(module, "network_current_names")
    ]
