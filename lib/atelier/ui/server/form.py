"""The content of the tab's form: as it was last, kept for the next time, and as a run was started with."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.datasets import DatasetConfig, datasets_from_folders
from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig, job_from_dict
from atelier.config.settings.named import PATH_SETTINGS, PRIVATE_SETTINGS
from atelier.hosts.contract import Host
from atelier.jobs.files import plain, read_json, write_json
from atelier.jobs.queue import Jobs
from atelier.ui.fields import shown_options, to_control
from atelier.ui.server.request import Request

log = logging.getLogger(__name__)

FORMS = "forms"
"""Folder below the runs folder with the last form of each WebUI and person."""
VERSION = 1
NAMES_A_PLACE = frozenset((*PATH_SETTINGS, *PRIVATE_SETTINGS, "sample_prompts", "network_args"))
"""Settings that may name a file, a folder or an address."""


@dataclass(frozen=True)
class Form:
    """The contents of the controls by key, as Gradio has them: texts, and True or False."""

    values: dict[str, Any]
    caption_from_name: bool = False
    imported: dict[str, Any] = field(default_factory=dict)
    """`Request.imported`: datasets and further keys of a file that was read."""

    def as_json(self) -> dict[str, Any]:
        """For a route or a file."""
        return plain(dataclasses.asdict(self))


class LastForm:
    """The last form of each person at one WebUI, on the server's disk. Nothing here raises for a disk that is full."""

    def __init__(self, runs: Path, host_name: str) -> None:
        self._folder = runs / FORMS
        self._host_name = host_name
        self._known: dict[str, Form] = {}

    @classmethod
    def of(cls, jobs: Jobs, host: Host) -> LastForm:
        """The last forms of a queue's WebUI, shared by the tab and the routes."""
        return jobs.for_page.setdefault("last form", cls(host.folders.runs, host.name))

    def keep(self, request: Request, folder: str | None = None) -> None:
        """Keeps what the controls hold for the person `request.user`. `folder`: of dropped pictures, if there are any.

        On a page that is open to the network without a login, everybody is the same person: nothing that names a place
        is kept.
        """
        values = {key: value for key, value in request.values.items() if isinstance(value, (str, bool))}
        if folder and request.files:
            values["train_data_dir"] = folder
        form = Form(values, request.caption_from_name, dict(request.imported or {}))
        form = form if request.paths else _without_places(form)
        if form == self._known.get(request.user):
            return
        self._known[request.user] = form
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._file(request.user), {"version": VERSION, **form.as_json()})
        except OSError as error:
            log.warning("the form of the training tab could not be kept: %s", error)

    def read(self, paths: bool = True, user: str = "") -> Form | None:
        """The form of this person; None when none was kept. `paths`: as in `Request`."""
        if user not in self._known:
            kept = read_json(self._file(user), None)
            found = form_from(kept) if isinstance(kept, Mapping) and kept.get("version") == VERSION else None
            if found is None:
                return None
            self._known[user] = found
        form = self._known[user]
        return form if paths else _without_places(form)

    def _file(self, user: str) -> Path:
        """A file for each person, whose name does not tell who that is."""
        person = f"-{hashlib.sha256(user.encode()).hexdigest()[:16]}" if user else ""
        return self._folder / f"{self._host_name}{person}.json"


def form_of(job: JobConfig, paths: bool = True) -> Form:
    """The form that starts such a run again, without what may be another person's secret.

    Without `paths`, what names a place is left out.
    """
    options = [option for option in shown_options() if option.key not in PRIVATE_SETTINGS]
    values = {option.key: to_control(option, getattr(job.settings, option.key)) for option in options}
    for from_name in (False, True):
        if job.datasets == _from_folders(job, from_name):
            form = Form(values, from_name, {"extra": job.extra} if job.extra else {})
            return form if paths else _without_places(form)
    datasets = [dataclasses.asdict(dataset) for dataset in job.datasets.datasets]
    form = Form({**values, "train_data_dir": ""}, False, {"datasets": datasets, "extra": job.extra})
    return form if paths else _without_places(form)


def _from_folders(job: JobConfig, from_name: bool) -> DatasetConfig | None:
    """The datasets as the tab makes them from the folders; None when the folders are no longer there."""
    if not job.settings.train_data_dir:
        return None
    try:
        datasets = datasets_from_folders(job.settings)
    except AtelierError:
        return None
    for subset in datasets.subsets:
        subset.caption_from_name |= from_name and not subset.is_reg
    return datasets


def _without_places(form: Form) -> Form:
    return Form({key: value for key, value in form.values.items() if key not in NAMES_A_PLACE}, form.caption_from_name)


def form_from(found: Mapping[str, Any]) -> Form | None:
    """The form that `Form.as_json` made; None when there is none. What is damaged in it is left out."""
    if not isinstance(found.get("values"), dict):
        return None
    known = {option.key for option in shown_options()}
    values = {key: value for key, value in found["values"].items() if key in known and isinstance(value, (str, bool))}
    held = found.get("imported")
    imported = held if isinstance(held, dict) and _can_be_read(held) else {}
    return Form(values, found.get("caption_from_name") is True, imported)


def _can_be_read(imported: dict[str, Any]) -> bool:
    try:
        job_from_dict({"version": 1, "settings": {}, "datasets": imported.get("datasets") or []})
    except AtelierError:
        return False
    return True
