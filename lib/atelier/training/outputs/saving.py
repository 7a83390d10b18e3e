"""Helpers for saving: file names, folders, free disk space, and removing files."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from atelier.config.errors import AtelierError
from atelier.config.files.paths import exists, expanded
from atelier.config.settings.schema import Settings
from atelier.hosts.contract import Folders

MARGIN = 64 * 2**20
"""Bytes that must stay free on the disk."""


def epoch_name(name: str, epoch: int) -> str:
    """kohya's name for a save at the end of an epoch: NAME-000004."""
    return f"{name}-{epoch:06d}"


def step_name(name: str, step: int) -> str:
    """kohya's name for a save after a number of steps: NAME-step00000100."""
    return f"{name}-step{step:08d}"


def output_folder(settings: Settings, folders: Folders) -> Path:
    """The folder of a run's files: output_dir if it is set, else the host's folder for LoRAs or checkpoints."""
    if settings.output_dir:
        return expanded(settings.output_dir)
    return folders.checkpoints if settings.train_whole_model else folders.lora


def check_writable(folder: Path) -> None:
    """Makes `folder` if it is missing. Raises `AtelierError` when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise AtelierError(
            f"Nothing can be saved in {folder} ({error.strerror or error}). Make it writable, or choose another folder."
        ) from error


def existing(folder: Path) -> Path:
    """`folder`, or its nearest parent that exists."""
    while not exists(folder):
        folder = folder.parent
    return folder


def check_space(folder: Path, size: int, what: str = "the next file") -> None:
    """Raises `AtelierError` when `folder`'s disk has too little space for `size` more bytes. `what`: what they are."""
    free = shutil.disk_usage(existing(folder)).free
    if free < size + MARGIN:
        needs = "needs" if what == "the next file" else "need"
        raise AtelierError(
            f"The disk of {folder} has {free / 2**20:.0f} MB free, but {what} {needs} {size / 2**20:.0f} MB. "
            "Free some space, or choose another folder."
        )


def remove_with_sidecars(path: Path) -> None:
    """Deletes a save of this run with its description and preview."""
    for suffix in (".safetensors", ".json", ".png"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str) -> None:
    """Deletes half-written files of run `name`, left by a process that was killed."""
    save = rf"{re.escape(name)}(-\d{{6}}|-step\d{{8}})?(-ema)?(-\d+)?"
    half = re.compile(rf"\.{save}\.(safetensors|ckpt|json|png)\.(\d+|\w{{8}})\.part")
    for path in folder.glob(".*.part"):
        if half.fullmatch(path.name):
            path.unlink(missing_ok=True)
