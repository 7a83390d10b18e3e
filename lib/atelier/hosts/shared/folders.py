"""The folders of a WebUI, from its own paths and flags."""

from __future__ import annotations

from pathlib import Path

from atelier.hosts.contract import Folders


def folders_of(checkpoint_folder: str) -> Folders:
    """The folders of the running WebUI; `checkpoint_folder` is the name below its models folder."""
    from modules import shared
    from modules.paths_internal import data_path, models_path

    flags = shared.cmd_opts
    lora = getattr(flags, "lora_dir", None) or Path(models_path) / "Lora"
    checkpoints = getattr(flags, "ckpt_dir", None) or Path(models_path) / checkpoint_folder
    own = Path(data_path) / "atelier"
    return Folders(Path(lora), Path(checkpoints), own / "runs", own / "cache")
