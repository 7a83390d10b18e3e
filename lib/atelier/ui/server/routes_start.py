"""Turns the body of a request, JSON or TOML, into a job, with the checks of a settings file."""

from __future__ import annotations

from typing import Any

from atelier.config.datasets import DatasetConfig
from atelier.config.errors import AtelierError
from atelier.config.given_paths import check_paths
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.kohya.dataset_toml import read_datasets
from atelier.config.kohya.document import Document, parse_document
from atelier.config.kohya.toml_in import settings_from
from atelier.hosts.contract import Host
from atelier.hosts.powers import chosen_model
from atelier.ui.server.security import Access, Refused, check_dataset_paths, check_settings_paths, parse_json

DATASET_KEYS = ("general", "datasets")
"""The tables of a dataset TOML. A TOML body may have them beside the settings."""


def job_from_body(body: bytes, content_type: str, host: Host, access: Access) -> JobConfig:
    """The job in a request's body. Raises `Refused` and `AtelierError`."""
    if content_type.split(";")[0].strip().lower() == "application/json":
        settings_part, datasets_part = _from_json(parse_json(body))
    else:
        settings_part, datasets_part = _from_toml(body)
    settings = settings_from(settings_part)
    folders = (host.folders.lora, host.folders.checkpoints, host.folders.runs, host.folders.cache)
    if not access.paths:
        check_settings_paths(settings, folders)
    datasets: DatasetConfig | None = None
    if datasets_part is not None:
        datasets = read_datasets(datasets_part, settings)
        if not access.paths:
            check_dataset_paths(datasets, folders)
    job = job_from_settings(settings, datasets)
    check_paths(job)
    return job


def check_model(host: Host) -> None:
    """Raises `Refused` when the chosen model cannot be trained."""
    info = chosen_model(host)
    if info is None:
        raise Refused(409, "No model is loaded. Load a checkpoint first.")
    if info.refusal:
        raise Refused(409, info.refusal)


def _from_json(content: dict[str, Any]) -> tuple[Document, Document | None]:
    unknown = sorted(set(content) - {"settings", *DATASET_KEYS})
    if unknown:
        raise Refused(400, f"{unknown[0]!r} is not known: the body may have settings, general and datasets.")
    settings = content.get("settings", {})
    if not isinstance(settings, dict):
        raise Refused(400, "settings must be a JSON object: a value for each key.")
    return Document("settings", "", settings), _datasets(content, "")


def _from_toml(body: bytes) -> tuple[Document, Document | None]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AtelierError("The TOML is not UTF-8 text.") from error
    document = parse_document(text, "the TOML")
    settings = {key: value for key, value in document.content.items() if key not in DATASET_KEYS}
    return Document("the TOML", document.text, settings), _datasets(document.content, document.text)


def _datasets(content: dict[str, Any], text: str) -> Document | None:
    if not any(key in content for key in DATASET_KEYS):
        return None
    return Document("the datasets", text, {key: content[key] for key in DATASET_KEYS if key in content})
