"""A job from any file that can be imported, for a run: train reads what import reads."""

from __future__ import annotations

from pathlib import Path

from atelier.config.errors import AtelierError, Problem, SettingsError
from atelier.config.imports.imported import DATASET, Imported
from atelier.config.imports.importer import read_any
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.kohya.toml_in import Overrides
from atelier.config.kohya.verdicts import NOT_SUPPORTED, training_verdict


def load_job(path: Path, dataset_config: Path | None = None, overrides: Overrides = None) -> JobConfig:
    """A job from a file that `read_any` takes, and the dataset TOML that it names or that is given here.

    `overrides`: settings of a command line, which win. `JobConfig.notes` says which keys are unknown or not supported.
    Raises `AtelierError`.
    """
    given = {**(overrides or {}), **({"dataset_config": str(dataset_config)} if dataset_config else {})}
    found = read_any(path, given)
    found.check()
    if found.kind == DATASET:
        raise AtelierError(
            f"{path.name} only says which pictures to use. Give a file with settings, and this one as "
            f"--dataset_config {path.name}."
        )
    if found.dataset_config is not None:
        raise SettingsError([Problem("dataset_config", found.dataset_config, "there is no such file", path.name)])
    return job_of(found)


def job_of(found: Imported) -> JobConfig:
    """The job of a file that was read, complete. Raises `AtelierError` when it names no pictures."""
    job = job_from_settings(found.settings, found.datasets)
    job.notes = [*found.notes, *unsupported(found)]
    job.extra = dict(found.extra)
    return job


def unsupported(found: Imported) -> list[str]:
    """A sentence for each key that asks for something that is not supported."""
    return [
        f"{key.key} is not supported: {key.note or training_verdict(key.key).note}"
        for key in found.keys
        if key.verdict == NOT_SUPPORTED
    ]
