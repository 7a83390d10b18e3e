"""Turns the contents of the tab's controls into a job, or into a sentence that says why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.config.datasets import DatasetConfig
from atelier.config.errors import AtelierError, FieldError
from atelier.config.files.paths import expanded, is_file, is_folder
from atelier.config.job import JobConfig, job_from_dict, job_from_settings
from atelier.config.names import check_output_name
from atelier.config.settings.named import named_addresses, named_classes, named_paths
from atelier.config.settings.schema import Settings, labelled
from atelier.hosts.contract import Host, ModelInfo
from atelier.hosts.powers import chosen_model
from atelier.jobs.housekeeping import UPLOADS
from atelier.jobs.queue import Jobs
from atelier.ui.fields import collect
from atelier.ui.gradio_compat import DroppedFile
from atelier.ui.server.uploads import keep_files


class NameTaken(FieldError):
    """The output name exists already. `free` is the next name that does not."""

    def __init__(self, name: str, free: str) -> None:
        super().__init__(
            f"There is a LoRA named {name} already, and saved files are not overwritten. "
            f"The name is now {free}: press Train again, or choose another name.",
            "output_name",
        )
        self.free = free


@dataclass(frozen=True)
class Request:
    """The contents of the controls. `values`: by key of the setting, as the controls have them."""

    values: Mapping[str, Any]
    files: Sequence[DroppedFile] = ()
    caption_from_name: bool = False
    paths: bool = True
    """False: the page is open to the network without a login, and may not name folders or files."""
    checked: Mapping[str, str] | None = None
    """The model that the form was last checked for: its "identity" and "title"."""
    user: str = ""
    """The name of the person who is logged in; "" where there is no login."""
    imported: Mapping[str, Any] | None = None
    """What a file that was read has beyond the controls: its datasets, and keys kept for export."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the person, added while the request is read: what was left out."""


def has_pictures(request: Request) -> bool:
    """True when the person named a folder, dropped files, or read a file that names folders."""
    named = str(request.values.get("train_data_dir") or "").strip()
    return bool(request.files or named or imported_datasets(request))


def settings_of(request: Request, host: Host) -> Settings:
    """The settings, with dropped files as the folder of pictures. Raises `AtelierError`.

    `train_data_dir` stays empty when the pictures come from the datasets of a file.
    """
    settings = collect(request.values)
    if not request.paths:
        _check_closed(settings, request)
    folder = (settings.train_data_dir or "").strip().strip('"')
    if request.files:
        uploaded = keep_files(request.files, host.folders.runs / UPLOADS)
        request.notes.extend(uploaded.left_out)
        if folder:
            request.notes.append("The dropped pictures are used, not the folder. Remove them to use the folder.")
        folder = str(uploaded.folder)
    if not folder and not imported_datasets(request):
        raise FieldError("Name a folder of pictures, or drop pictures on the page.", "train_data_dir")
    if folder and not is_folder(folder):
        raise FieldError(_no_folder(folder), "train_data_dir")
    return settings.replace(
        train_data_dir=str(expanded(folder)) if folder else None,
        output_name=settings.output_name.strip(),
        trigger=settings.trigger.strip(),
    )


def _no_folder(named: str) -> str:
    """Why a name is none of a folder of pictures."""
    path = expanded(named)
    if is_file(named):
        return f"{named} is a file. Name the folder that it is in: {path.parent}."
    return f"There is no folder {named}. Check the spelling, or drop the pictures on the page."


def _check_closed(settings: Settings, request: Request) -> None:
    """Raises `AtelierError` when somebody on the network without a login names a file or class of this machine."""
    for key in named_classes(settings):
        raise AtelierError(
            f"This page is open to the network without a login, so {labelled(key)} cannot be a Python class."
        )
    for key in named_addresses(settings):
        raise AtelierError(f"This page is open to the network without a login, so {labelled(key)} cannot be used.")
    if named_paths(settings) or imported_datasets(request):
        raise AtelierError(
            "This page is open to the network without a login, so folders and files of this machine cannot be named. "
            "Drop the pictures on the page instead."
        )


def job_of(request: Request, host: Host) -> JobConfig:
    """The job, checked as far as settings go. Raises `AtelierError`."""
    settings = settings_of(request, host)
    datasets = imported_datasets(request)
    if datasets is not None and settings.train_data_dir:
        request.notes.append("Your own pictures are used, not the folders of the file that was read.")
        datasets = None
    elif datasets is not None:
        request.notes.append("Folders, sizes and captions come from the file that was read.")
    job = job_from_settings(settings, datasets)
    for subset in job.datasets.subsets:
        subset.caption_from_name |= request.caption_from_name and not subset.is_reg
    job.extra = dict((request.imported or {}).get("extra") or {})
    return job


def imported_datasets(request: Request) -> DatasetConfig | None:
    """The datasets of the file that was read; None when it had none."""
    held = request.imported or {}
    if not held.get("datasets"):
        return None
    return job_from_dict({"version": 1, "settings": {}, "datasets": held["datasets"]}).datasets


def check_name(name: str, jobs: Jobs) -> None:
    """Raises `AtelierError` for a name that no file can have, `NameTaken` for the name of a LoRA or a queued run."""
    check_output_name(name)
    free = jobs.free_name(name)
    if free != name:
        raise NameTaken(name, free)


def model_to_train(host: Host) -> ModelInfo:
    """The chosen model, loaded. Raises `AtelierError`, which says why it cannot be trained."""
    model = chosen_model(host)
    if model is None:
        raise AtelierError("No model is loaded. Choose a checkpoint at the top of the page.")
    if model.refusal:
        raise AtelierError(model.refusal)
    if model.family is None:
        raise AtelierError(
            f"{model.title} is of a family that cannot be trained yet. Choose a Stable Diffusion 1, 2 or XL model."
        )
    return model
