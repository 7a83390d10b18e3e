"""A file that was read, of whatever kind: its settings, its datasets, and a verdict for every key in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.datasets import DatasetConfig
from atelier.config.errors import AtelierError, Problem, SettingsError
from atelier.config.files.paths import is_file, is_folder
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.kohya.assemble import Place, Reading
from atelier.config.kohya.dataset_toml import DatasetReader
from atelier.config.kohya.document import Document, parse_document, read_text
from atelier.config.kohya.toml_in import find_beside, folders_beside
from atelier.config.kohya.verdicts import KeyVerdict
from atelier.config.settings.schema import Settings

TRAINING, DATASET, BOTH = "sd-scripts training TOML", "sd-scripts dataset TOML", "training and dataset TOML in one"
PRESET, GUI_TOML, LORA, JOB = "kohya_ss GUI preset", "kohya_ss GUI config", "LoRA file", "Atelier job"
EASY = "LoRA_Easy_Training_Scripts TOML"


@dataclass
class Imported:
    """A file that was read. `problems` forbid using it; `notes` are sentences for the person.

    `settings` are complete: what the file leaves out has kohya's default. `values` are only those that the file sets.
    `datasets` is None when the file has none. `extra`: sd-scripts' keys without a setting here.
    """

    path: Path
    kind: str
    settings: Settings = field(default_factory=Settings)
    values: dict[str, Any] = field(default_factory=dict)
    datasets: DatasetConfig | None = None
    keys: list[KeyVerdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    faults: list[Problem] = field(default_factory=list)
    """Those of the problems that are of one key."""
    dataset_config: str | None = None
    """The dataset TOML that the file names, while it is not read; afterwards only if there is no such file."""

    @property
    def usable(self) -> bool:
        """True when the file has no problems."""
        return not self.problems

    def job(self) -> JobConfig:
        """The job that the file describes, for an export. Raises `AtelierError`.

        Without datasets when it names no pictures, or folders that are not on this machine.
        """
        self.check()
        folders = (self.settings.train_data_dir, self.settings.reg_data_dir)
        here = folders[0] and all(is_folder(folder) for folder in folders if folder)
        if self.datasets is None and not here:
            job = JobConfig(self.settings, DatasetConfig(), notes=list(self.notes))
        else:
            job = job_from_settings(self.settings, self.datasets)
            job.notes = list(self.notes)
        job.extra = dict(self.extra)
        return job

    def check(self) -> None:
        """Raises `AtelierError` with every problem, when there is one."""
        if not self.problems:
            return
        if len(self.faults) == len(self.problems):
            raise SettingsError(self.faults)
        raise AtelierError("\n".join(self.problems))


def imported(path: Path, kind: str, reading: Reading) -> Imported:
    """What a reading found. The dataset TOML that it names is not read yet."""
    return Imported(
        path,
        kind,
        reading.settings(),
        dict(reading.values),
        keys=list(reading.keys),
        problems=[str(problem) for problem in reading.problems],
        notes=list(reading.notes),
        extra=dict(reading.extra),
        faults=list(reading.problems),
        dataset_config=reading.dataset_config,
    )


def read_named_datasets(found: Imported) -> None:
    """Reads the dataset TOML that a file names, if it exists. It wins over datasets in the file itself."""
    if found.dataset_config is None:
        return
    named = find_beside(Path(found.dataset_config), found.path)
    if not is_file(named):
        found.notes.append(f"There is no dataset file {found.dataset_config}. Choose the folder of pictures yourself.")
        return
    try:
        document = parse_document(read_text(named), named.name)
    except AtelierError as error:
        found.problems.append(str(error))
        return
    if found.datasets is not None:
        found.notes.append(f"The datasets in {found.path.name} are not used, since it names a dataset file.")
    found.dataset_config = None
    with_datasets(found, document, named)


def with_datasets(found: Imported, document: Document, path: Path) -> Imported:
    """`found` with the datasets of a dataset TOML; their folders may lie beside the file `path`."""
    reader = DatasetReader(document, found.settings)
    found.datasets = reader.read()
    folders_beside(found.datasets, path)
    found.keys += reader.keys
    found.problems += [str(problem) for problem in reader.problems]
    found.faults += reader.problems
    found.notes += reader.notes
    for folder in dict.fromkeys(subset.image_dir for subset in found.datasets.subsets):
        if folder and not is_folder(folder):
            found.notes.append(f"The folder {folder} is not on this machine. Choose your folder before training.")
    return found


def placer(path: Path) -> Place:
    """Problems that name the file."""
    return lambda key, value, allowed: (
        Problem(key, value, allowed) if key.startswith("--") else Problem(key, value, allowed, path.name)
    )
