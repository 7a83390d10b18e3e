"""Forge Neo's checkpoints: listed, and loaded with the preset of their family.

A preset has a checkpoint, a VAE, text encoders and a storage of its own. Loaded under another family's preset, a
checkpoint would get the text encoders of that family.
"""

from __future__ import annotations

from pathlib import Path

from atelier.hosts.shared import a1111_kind

PRESETS = {"sd1": "sd", "sdxl": "xl"}
"""The presets by the names of the families."""


def publish_checkpoint(path: Path, load: bool, title: str) -> None:
    """Lists the checkpoint; if asked, chooses it and loads it in the queue. `title` is the WebUI's name for people."""
    from modules import sd_models, shared
    from modules_forge import main_entry

    main_entry.refresh_models()
    if not load:
        return
    options = shared.opts
    info = a1111_kind.listed_checkpoint(path, title)
    name = info.short_title if options.sd_checkpoint_dropdown_use_short else info.name
    preset = preset_of(path) or options.forge_preset
    if preset != options.forge_preset:
        options.set("forge_preset", preset)  # the page shows it when it is loaded anew
        storage = getattr(options, f"forge_unet_storage_dtype_{preset}", None) or "Automatic"
        main_entry.dtype_change(storage, preset, save=False, refresh=False)
        modules = getattr(options, f"forge_additional_modules_{preset}", None) or []
        main_entry.modules_change(modules, preset, save=False, refresh=False)
    main_entry.checkpoint_change(name, preset, refresh=False)
    main_entry.refresh_model_loading_parameters()
    with a1111_kind.queue():
        # A file written anew under the name of the loaded one is another model, which Forge Neo does not see.
        sd_models.model_data.forge_hash = ""
        sd_models.forge_model_reload()


def preset_of(path: Path) -> str | None:
    """The preset of the family that a checkpoint is of, None for one without."""
    from atelier.models.checkpoints.folder import open_tensor_file
    from atelier.models.registry import recognise

    file = open_tensor_file(path)
    try:
        return PRESETS.get(recognise(file.shapes, path.name).name)
    finally:
        file.close()
