"""The work of the Tools section: merges a LoRA into a checkpoint, extracts a LoRA from two. Knows no Gradio."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.config.errors import AtelierError
from atelier.config.names import check_output_name, free_name
from atelier.hosts.contract import Host
from atelier.ui.tab.messages import error_html, ok_html, unexpected

if TYPE_CHECKING:
    from atelier.training.outputs.lora_tools import Made

log = logging.getLogger(__name__)

CHECKPOINTS = (".safetensors", ".ckpt")
INDEX = "model_index.json"
"""The file that every diffusers model folder has."""
LARGEST_RANK = 1024


@dataclass
class Lists:
    """The files that can be chosen, by the name that the page shows."""

    loras: dict[str, Path] = field(default_factory=dict)
    checkpoints: dict[str, Path] = field(default_factory=dict)


def lists(host: Host) -> Lists:
    """The files in the host's folders, and the loaded model if it lies elsewhere."""
    folders = host.folders
    found = Lists()
    if folders.lora.is_dir():
        for path in sorted(folders.lora.rglob("*.safetensors")):
            found.loras[path.relative_to(folders.lora).as_posix()] = path
    for path in sorted(_checkpoints(folders.checkpoints)):
        found.checkpoints[path.relative_to(folders.checkpoints).as_posix()] = path
    model = host.loaded_model()
    loaded = model.path if model is not None else None
    if loaded is not None and loaded.exists() and loaded not in found.checkpoints.values():
        found.checkpoints[loaded.name] = loaded
    return found


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Checkpoint files and diffusers folders in `folder` and below, without the contents of diffusers folders."""
    if (folder / INDEX).exists():
        return
    for name, folders, files in os.walk(folder):
        here = Path(name)
        found = (here / file for file in files)
        yield from (path for path in found if path.suffix.lower() in CHECKPOINTS and path.is_file())
        models = [name for name in folders if (here / name / INDEX).exists()]
        yield from (here / name for name in models)
        folders[:] = [name for name in folders if name not in models]


def merge(host: Host, lora: str, base: str, weight: str, name: str) -> str:
    """Merges, adds the result to the WebUI's list, and returns a message as HTML. Nothing is overwritten."""

    def work() -> Made:
        from atelier.training.outputs.lora_tools import merge_lora

        known = lists(host)
        amount = _number(weight, "The weight", -10, 10)
        wanted = name.strip() or f"{Path(base).stem}-{Path(lora).stem}"
        out = _new(host.folders.checkpoints, wanted, ".safetensors")
        made = merge_lora(_chosen(known.loras, lora, "LoRA"), _chosen(known.checkpoints, base, "base"), out, amount)
        host.publish_checkpoint(made.path, load=False)
        return made

    return _message(work)


def extract(host: Host, tuned: str, base: str, rank: str, name: str) -> str:
    """Extracts, adds the result to the WebUI's list, and returns a message as HTML. Nothing is overwritten."""

    def work() -> Made:
        from atelier.training.outputs.lora_tools import extract_lora_file

        known = lists(host)
        size = int(_number(rank, "The rank", 1, LARGEST_RANK))
        wanted = name.strip() or f"{Path(tuned).stem}-lora"
        out = _new(host.folders.lora, wanted, ".safetensors")
        trained = _chosen(known.checkpoints, tuned, "trained checkpoint")
        made = extract_lora_file(trained, _chosen(known.checkpoints, base, "base"), out, size)
        host.publish_lora(made.path)
        return made

    return _message(work)


def _message(work: Callable[[], Made]) -> str:
    try:
        return ok_html(work().report)
    except AtelierError as error:
        return error_html(error)
    except Exception as error:  # a sentence for the page, the traceback for the log
        log.exception("a tool failed")
        return error_html(unexpected(error))


def _chosen(known: dict[str, Path], name: str, what: str) -> Path:
    if not name:
        raise AtelierError(f"Choose the {what}.")
    if name not in known:
        raise AtelierError(f"{name} no longer exists. Refresh the lists and choose the {what} again.")
    return known[name]


def _new(folder: Path, name: str, suffix: str) -> Path:
    """The file NAME in `folder`, or NAME-2 … when it exists. Raises `SettingsError` for a name no file can have."""
    check_output_name(name)
    return folder / f"{free_name(folder, name)}{suffix}"


def _number(text: str, what: str, least: float, most: float) -> float:
    try:
        value = float(str(text).strip())
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise AtelierError(f"{what} is {text!r}; it must be a number from {least:g} to {most:g}.")
    return value
