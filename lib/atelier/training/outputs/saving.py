"""Writing the trained LoRA: names, metadata, sidecars, and how many old ones stay."""

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
"""Bytes that are left free on the disk beside what is written."""


def epoch_name(name: str, epoch: int) -> str:
    """kohya's name of a save at the end of an epoch: NAME-000004."""
    return f"{name}-{epoch:06d}"


def step_name(name: str, step: int) -> str:
    """kohya's name of a save in the middle: NAME-step00000100."""
    return f"{name}-step{step:08d}"


def output_folder(settings: Settings, folders: Folders) -> Path:
    """Where a run's files go: output_dir when a command line gave one, else the host's folder for their kind."""
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
            f"Nothing can be saved in {folder} ({error.strerror or error}): make it writable, or choose another folder."
        ) from error


def existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that exists."""
    while not exists(folder):
        folder = folder.parent
    return folder


def check_space(folder: Path, size: int, what: str = "the next file") -> None:
    """Raises `AtelierError` when `folder`'s disk has no room for `size` bytes more. `what` is to be written."""
    free = shutil.disk_usage(existing(folder)).free
    if free < size + MARGIN:
        needs = "needs" if what == "the next file" else "need"
        raise AtelierError(
            f"The disk of {folder} has {free / 2**20:.0f} MB free, {what} {needs} {size / 2**20:.0f} MB: "
            "make room, or choose another folder."
        )


def remove_with_sidecars(path: Path) -> None:
    """Deletes a save of this run together with its description and preview."""
    for suffix in (".safetensors", ".json", ".png"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str) -> None:
    """Deletes what a process that was killed left half written of the files of run `name`."""
    save = rf"{re.escape(name)}(-\d{{6}}|-step\d{{8}})?(-ema)?(-\d+)?"
    half = re.compile(rf"\.{save}\.(safetensors|ckpt|json|png)\.(\d+|\w{{8}})\.part")
    for path in folder.glob(".*.part"):
        if half.fullmatch(path.name):
            path.unlink(missing_ok=True)
