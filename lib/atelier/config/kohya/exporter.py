"""Writes a job as files for kohya's sd-scripts: a training TOML, a dataset TOML, and the sample prompts as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.files.paths import exists, expanded
from atelier.config.job import JobConfig
from atelier.config.kohya.toml_out import dataset_toml, training_toml
from atelier.config.names import name_problem
from atelier.config.sample_prompts import PROMPT_FILES
from atelier.config.settings.named import named_paths


@dataclass(frozen=True)
class Exported:
    """The files written. `missing`: what sd-scripts still needs, as sentences."""

    training: Path
    dataset: Path | None
    prompts: Path | None
    missing: list[str]
    command: str
    """How to start sd-scripts with these files. For SDXL the script is sdxl_train_network.py or sdxl_train.py."""


def export_job(job: JobConfig, folder: Path, base: str | None = None) -> Exported:
    """Writes NAME.toml, NAME_dataset.toml and, unless the prompts are a file already, NAME_prompts.txt into `folder`.

    `base` is the checkpoint to name when the job names none, such as the WebUI's loaded one. Existing files are not
    overwritten: NAME becomes NAME-2 and so on. Raises `AtelierError` when the folder cannot be written.
    """
    folder = expanded(folder)
    stem = _stem(folder, job.name)
    settings = job.settings
    instead: dict[str, Any] = {}
    dataset = prompts = None
    texts: list[tuple[Path, str]] = []
    if job.datasets.datasets:
        dataset = folder / f"{stem}_dataset.toml"
        texts.append((dataset, dataset_toml(job, for_kohya=True)))
        instead["dataset_config"] = dataset.resolve().as_posix()
    if settings.sample_prompts and not settings.sample_prompts.lower().endswith(PROMPT_FILES):
        prompts = folder / f"{stem}_prompts.txt"
        texts.append((prompts, settings.sample_prompts.rstrip("\n") + "\n"))
        instead["sample_prompts"] = prompts.resolve().as_posix()
    if not settings.output_dir:
        instead["output_dir"] = folder.resolve().as_posix()
    if not settings.pretrained_model_name_or_path and base:
        instead["pretrained_model_name_or_path"] = str(base)
    training = folder / f"{stem}.toml"
    texts.append((training, training_toml(job, for_kohya=True, **instead)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts:
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise AtelierError(f"{folder} cannot be written: {error.strerror or error}.") from error
    missing = []
    if not (settings.pretrained_model_name_or_path or base):
        missing.append("pretrained_model_name_or_path: the base checkpoint. In a WebUI it is the loaded one.")
    if dataset is None and not settings.train_data_dir:
        missing.append("dataset_config or train_data_dir: where the pictures are.")
    missing += _not_here(job)
    script = "train_db.py" if settings.train_whole_model else "train_network.py"
    command = f'accelerate launch {script} --config_file "{training}"'
    return Exported(training, dataset, prompts, missing, command)


def _not_here(job: JobConfig) -> list[str]:
    """A sentence for each folder or file that the job names and this machine does not have."""
    named = [(key, path) for key, path in named_paths(job.settings) if key not in ("output_dir", "resume")]
    if job.datasets.datasets:  # the folders of the training settings are not read then
        named = [(key, path) for key, path in named if key not in ("train_data_dir", "reg_data_dir", "in_json")]
    for subset in job.datasets.subsets:
        named += [(key, getattr(subset, key) or "") for key in ("image_dir", "metadata_file", "conditioning_data_dir")]
    gone = [(key, path) for key, path in dict.fromkeys(named) if path and not exists(path)]
    return [
        f"{key}: {path} is not on this machine. Where you train, write the place that it has there."
        for key, path in gone
        if not (key in _MAY_BE_FETCHED and _REPOSITORY.fullmatch(path))
    ]


_MAY_BE_FETCHED = ("pretrained_model_name_or_path", "vae")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
"""The name of a repository, which sd-scripts downloads."""


def _stem(folder: Path, name: str) -> str:
    """`name` if a file can have it, else "training"; with a number when such files exist already."""
    wanted = name if name and name_problem(name) is None else "training"
    number, stem = 1, wanted
    while any((folder / f"{stem}{ending}").exists() for ending in (".toml", "_dataset.toml", "_prompts.txt")):
        number += 1
        stem = f"{wanted}-{number}"
    return stem
