"""Adds files that a run has written to SD.Next's lists."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from atelier.config.errors import AtelierError


def list_lora(path: Path) -> bool:
    """Lists the LoRA. True when SD.Next has an older file of that name in memory or in the model.

    What it keeps of that file's bytes is forgotten; taking it out of the model is left to the caller.
    """
    from modules import shared
    from modules.lora import lora_common, lora_load

    lora_load.list_available_networks()
    for page in getattr(shared, "extra_networks", ()):
        if page.name == "lora":
            # A refresh of the panel lists only the kind that is open there, and shows the others as they were made.
            page.refresh_time = page.page_time = 0
            page.create_page("txt2img")
    names = {path.stem, path.stem.replace(".", "_")}
    known = [name for name in names if lora_load.lora_cache.pop(name, None) is not None]
    applied = [*lora_common.loaded_networks, *lora_common.previously_loaded_networks]
    return bool(known) or any(network.name in names for network in applied)


def forget_prompts() -> None:
    """What SD.Next keeps of prompts was computed with the LoRA as it was. Called inside the queue."""
    from modules import prompt_parser_diffusers

    prompt_parser_diffusers.cache.clear()


def publish_checkpoint(path: Path, load: bool, queue: AbstractContextManager[object]) -> None:
    """Lists the checkpoint, and loads it in the queue if asked. Raises `AtelierError` when SD.Next does not find it."""
    from modules import sd_checkpoint, sd_models

    sd_checkpoint.list_models()
    if not load:
        return
    info = sd_checkpoint.get_closest_checkpoint_match(str(path)) or sd_checkpoint.get_closest_checkpoint_match(
        path.stem
    )
    if info is None:
        raise AtelierError(f"SD.Next does not find {path.name} in {path.parent}, so it cannot load it.")
    with queue:
        sd_models.reload_model_weights(info=info, force=True)
