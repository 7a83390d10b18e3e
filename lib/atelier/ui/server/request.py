"""From what the tab's controls hold to a job, and every reason why there is none, as a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.config.datasets import DatasetConfig
from atelier.config.errors import AtelierError
from atelier.config.files.paths import expanded, is_folder
from atelier.config.job import JobConfig, job_from_dict, job_from_settings
from atelier.config.names import check_output_name
from atelier.config.settings.named import named_classes, named_paths
from atelier.config.settings.schema import Settings
from atelier.hosts.contract import Host, ModelInfo, chosen_model
from atelier.jobs.housekeeping import UPLOADS
from atelier.jobs.queue import Jobs
from atelier.ui.fields import collect
from atelier.ui.gradio_compat import DroppedFile
from atelier.ui.server.uploads import keep_files


class NameTaken(AtelierError):
    """The output name is one that exists. `free` is the next one that does not."""

    def __init__(self, name: str, free: str) -> None:
        super().__init__(
            f"There is a LoRA named {name} already, and nothing saved is overwritten. "
            f"The name is now {free}: press Train again, or choose another one."
        )
        self.free = free


@dataclass(frozen=True)
class Request:
    """What the controls hold. `values`: by the key of the setting, as the controls have them."""

    values: Mapping[str, Any]
    files: Sequence[DroppedFile] = ()
    caption_from_name: bool = False
    paths: bool = True
    """False: the page is open to the network without a login, and nobody there may name a folder or file."""
    imported: Mapping[str, Any] | None = None
    """What a file that was read in says and no control holds: its data sets and keys kept for export."""
    notes: list[str] = field(default_factory=list)
    """Filled while it is read: what was left out, for the person to know."""


def has_pictures(request: Request) -> bool:
    """True when the person gave a folder, dropped files, or read in a file that names folders."""
    named = str(request.values.get("train_data_dir") or "").strip()
    return bool(request.files or named or imported_datasets(request))


def settings_of(request: Request, host: Host) -> Settings:
    """The settings, with dropped files as the folder of pictures. Raises `AtelierError`.

    `train_data_dir` stays empty when the pictures come from a file's data sets.
    """
    settings = collect(request.values)
    if not request.paths:
        _check_closed(settings, request)
    folder = (settings.train_data_dir or "").strip().strip('"')
    if request.files:
        uploaded = keep_files(request.files, host.folders.runs / UPLOADS)
        request.notes.extend(uploaded.left_out)
        if folder:
            request.notes.append("The dropped pictures are used, not the folder; remove them to use the folder.")
        folder = str(uploaded.folder)
    if not folder and not imported_datasets(request):
        raise AtelierError("Give a folder of pictures, or drop pictures on the page.")
    if folder and not is_folder(folder):
        raise AtelierError(f"There is no folder {folder}. Check how it is written, or drop the pictures on the page.")
    return settings.replace(
        train_data_dir=str(expanded(folder)) if folder else None,
        output_name=settings.output_name.strip(),
        trigger=settings.trigger.strip(),
    )


def _check_closed(settings: Settings, request: Request) -> None:
    """Raises `AtelierError` when somebody on the network, who did not log in, names something of this machine."""
    for key in named_classes(settings):
        raise AtelierError(f"This page is open to the network without a login, so {key} cannot be a Python class.")
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
        request.notes.append("Your own pictures are used, not the folders of the file that was read in.")
        datasets = None
    elif datasets is not None:
        request.notes.append("Folders, sizes and captions come from the file that was read in.")
    job = job_from_settings(settings, datasets)
    for subset in job.datasets.subsets:
        subset.caption_from_name |= request.caption_from_name and not subset.is_reg
    job.extra = dict((request.imported or {}).get("extra") or {})
    return job


def imported_datasets(request: Request) -> DatasetConfig | None:
    """The data sets of the file that was read in; None when it had none."""
    held = request.imported or {}
    if not held.get("datasets"):
        return None
    return job_from_dict({"version": 1, "settings": {}, "datasets": held["datasets"]}).datasets


def check_name(name: str, jobs: Jobs) -> None:
    """Raises `AtelierError` for a name that cannot be a file's, `NameTaken` for one in the list or in the queue."""
    check_output_name(name)
    free = jobs.free_name(name)
    if free != name:
        raise NameTaken(name, free)


def model_to_train(host: Host) -> ModelInfo:
    """The chosen model, loaded. Raises `AtelierError` that says why it cannot be trained."""
    model = chosen_model(host)
    if model is None:
        raise AtelierError("No model is loaded. Choose a checkpoint at the top of the page.")
    if model.refusal:
        raise AtelierError(model.refusal)
    if model.family is None:
        raise AtelierError(
            f"{model.title} is of a kind that cannot be trained here yet. Choose a Stable Diffusion 1, 2 or XL model."
        )
    return model
