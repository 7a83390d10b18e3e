"""Turns the body of a request, JSON or TOML, into a job, with the checks of a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.given_paths import check_paths
from atelier.config.imports.importer import read_document
from atelier.config.imports.loading import job_of
from atelier.config.imports.toml_files import DATASET_TABLES
from atelier.config.job import JobConfig
from atelier.config.kohya.document import Document, parse_document
from atelier.hosts.contract import Host
from atelier.hosts.powers import chosen_model
from atelier.ui.server.security import CLOSED, Access, Refused, check_dataset_paths, check_settings_paths, parse_json


def job_from_body(body: bytes, content_type: str, host: Host, access: Access) -> JobConfig:
    """The job in a request's body. Raises `Refused` and `AtelierError`."""
    if content_type.split(";")[0].strip().lower() == "application/json":
        document = _from_json(parse_json(body))
    else:
        document = _from_toml(body)
    found = read_document(Path(document.name), document, files=access.paths)
    if found.dataset_config is not None and not access.paths:
        raise Refused(403, f"dataset_config names a file of this machine. {CLOSED}")
    found.check()
    folders = (host.folders.lora, host.folders.checkpoints, host.folders.runs, host.folders.cache)
    if not access.paths:
        check_settings_paths(found.settings, folders)
        if found.datasets is not None:
            check_dataset_paths(found.datasets, folders)
    if found.dataset_config is not None:
        raise AtelierError(f"There is no dataset file {found.dataset_config}.")
    job = job_of(found)
    check_paths(job)
    return job


def check_model(host: Host) -> None:
    """Raises `Refused` when the chosen model cannot be trained."""
    info = chosen_model(host)
    if info is None:
        raise Refused(409, "No model is loaded. Load a checkpoint first.")
    if info.refusal:
        raise Refused(409, info.refusal)


def _from_json(content: dict[str, Any]) -> Document:
    """The settings of a body, with its datasets beside them as in one TOML."""
    unknown = sorted(set(content) - {"settings", *DATASET_TABLES})
    if unknown:
        raise Refused(400, f"{unknown[0]!r} is not known: the body may have settings, general and datasets.")
    settings = content.get("settings", {})
    if not isinstance(settings, dict):
        raise Refused(400, "settings must be a JSON object: a value for each key.")
    datasets = {key: content[key] for key in DATASET_TABLES if key in content}
    return Document("settings", "", {**settings, **datasets})


def _from_toml(body: bytes) -> Document:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AtelierError("The TOML is not UTF-8 text.") from error
    return parse_document(text, "the TOML")


START_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["settings"],
                    "properties": {
                        "settings": {"type": "object"},
                        "general": {"type": "object"},
                        "datasets": {"type": "array", "items": {"type": "object"}},
                    },
                },
                "example": {
                    "settings": {
                        "output_name": "my_cat",
                        "trigger": "zwx cat",
                        "train_data_dir": "pictures/my_cat",
                        "max_train_steps": 800,
                    }
                },
            },
            "application/toml": {
                "schema": {"type": "string"},
                "example": 'output_name = "my_cat"\ntrigger = "zwx cat"\ntrain_data_dir = "pictures/my_cat"\n',
            },
        },
    }
}
