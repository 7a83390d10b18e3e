"""Class pictures (prior preservation): the folder of each class, and how many pictures are missing."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from atelier.config.datasets import DatasetConfig, Subset, subset_from_settings
from atelier.config.errors import AtelierError
from atelier.config.files.paths import expanded, is_folder
from atelier.config.job import JobConfig
from atelier.config.settings.schema import labelled
from atelier.data.images import list_pictures
from atelier.hosts.contract import Host, ModelInfo

FOLDER = "class_pictures"
"""Folder below the host's cache, with a folder for each class, model and size."""


@dataclass(frozen=True)
class ClassFolder:
    """The pictures of one class. `size`: (width, height) in pixels. `count`: how many there shall be."""

    folder: Path
    prompt: str
    count: int
    size: tuple[int, int]

    @property
    def missing(self) -> int:
        """Number of pictures still to be drawn. A missing folder counts as empty."""
        return max(0, self.count - (len(list_pictures(self.folder)) if is_folder(self.folder) else 0))


def class_folders(job: JobConfig, host: Host, base: ModelInfo) -> tuple[DatasetConfig, list[ClassFolder]]:
    """The run's datasets with a subset for each class prompt, and the folders for class pictures.

    A class is a line of class_prompt, with a folder of ours, or a regularisation subset with class_tokens. Raises
    `AtelierError` when one of class_prompt and num_class_images is set and the other one is missing.
    """
    settings, datasets = job.settings, job.datasets
    count = settings.num_class_images or 0
    if not count and settings.class_prompt:
        raise AtelierError(
            f"A class prompt is set, but {labelled('num_class_images')} is empty. Enter a number (for example 50), or "
            "clear the prompt."
        )
    if not count:
        return datasets, []
    found = []
    for dataset in datasets.datasets:
        for subset in dataset.subsets:
            if subset.is_reg and subset.class_tokens and subset.metadata_file is None and subset.num_repeats > 0:
                folder = expanded(subset.image_dir)
                found.append(ClassFolder(folder, subset.class_tokens, count, _size(dataset.resolution)))
    added: list[Subset] = []
    first = datasets.datasets[0]
    for prompt in settings.class_prompt:
        size = _size(first.resolution)
        folder = host.folders.cache / FOLDER / _folder_name(prompt, base, size)
        found.append(ClassFolder(folder, prompt, count, size))
        added.append(subset_from_settings(settings, folder, is_reg=True, class_tokens=prompt, num_repeats=1))
    if not found:
        raise AtelierError(
            f"{labelled('num_class_images')} is {count}, but there is no class. Fill in {labelled('class_prompt')} "
            f"(a photo of a dog), or put {labelled('reg_data_dir')} into a folder named like 1_dog."
        )
    with_classes = dataclasses.replace(first, subsets=[*first.subsets, *added])
    return DatasetConfig([with_classes, *datasets.datasets[1:]]), found


def _size(resolution: tuple[int, int]) -> tuple[int, int]:
    width, height = resolution
    return max(64, width - width % 8), max(64, height - height % 8)


def _folder_name(prompt: str, base: ModelInfo, size: tuple[int, int]) -> str:
    """A readable name that differs for another prompt, model or size."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40]
    digest = hashlib.sha256(f"{prompt}/{base.identity}".encode()).hexdigest()[:8]
    return f"{words or 'class'}-{size[0]}x{size[1]}-{digest}"
