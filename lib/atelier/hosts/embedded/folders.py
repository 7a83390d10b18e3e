"""The folders of the embedded host, all below one data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atelier.hosts.contract import Folders


@dataclass(frozen=True)
class DataFolder(Folders):
    """`contract.Folders` and the folder of the pictures that Generate saves."""

    root: Path
    outputs: Path


def data_folder(root: Path) -> DataFolder:
    """The folders under `root`, made where they are missing."""
    root = root.resolve()
    folders = DataFolder(
        lora=root / "loras",
        checkpoints=root / "models",
        runs=root / "runs",
        cache=root / "cache",
        root=root,
        outputs=root / "outputs",
    )
    for folder in (folders.lora, folders.checkpoints, folders.runs, folders.cache, folders.outputs):
        folder.mkdir(parents=True, exist_ok=True)
    return folders
