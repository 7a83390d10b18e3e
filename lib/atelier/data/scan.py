"""Scans the folders of a run before training: pictures, sizes, captions, buckets, and problems with them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from atelier.config.datasets import Dataset, DatasetConfig, Subset, datasets_from_folders
from atelier.config.errors import AtelierError
from atelier.config.files.paths import expanded
from atelier.config.settings.schema import Settings
from atelier.data.buckets import Buckets, Size
from atelier.data.captions import final_caption, find_caption, read_metadata
from atelier.data.images import list_pictures
from atelier.data.wholeness import check_picture


@dataclass(frozen=True)
class Picture:
    """One picture of a run. Sizes are (width, height) in pixels, upright."""

    path: Path
    size: Size
    caption: str
    """The caption before it is varied. It has several lines only where wildcards are enabled."""
    caption_source: str
    """"file", "metadata", "name", "class" or "none"."""
    bucket: Size
    resized: Size
    """The size before the crop to the bucket."""
    subset: Subset
    dataset: int
    """Index of its dataset in the `DatasetConfig`."""
    mask: Path | None = None
    """Its mask picture in the subset's conditioning_data_dir."""

    @property
    def is_reg(self) -> bool:
        return self.subset.is_reg

    @property
    def repeats(self) -> int:
        return self.subset.num_repeats


@dataclass(frozen=True)
class PictureProblem:
    """A picture or folder that is not used, or not used as asked for."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass
class Scan:
    """The result of a scan: the pictures and the problems."""

    datasets: DatasetConfig
    trigger: str
    pictures: list[Picture] = field(default_factory=list)
    problems: list[PictureProblem] = field(default_factory=list)

    @property
    def training(self) -> list[Picture]:
        """The pictures to learn, without class pictures."""
        return [picture for picture in self.pictures if not picture.is_reg]

    @property
    def regularisation(self) -> list[Picture]:
        """The class (regularisation) pictures."""
        return [picture for picture in self.pictures if picture.is_reg]

    @property
    def captioned(self) -> int:
        """Number of training pictures with a caption of their own."""
        return sum(picture.caption_source in ("file", "metadata") for picture in self.training)

    @property
    def buckets(self) -> dict[Size, int]:
        """Size -> number of pictures in that bucket, without repeats."""
        return dict(sorted(Counter(picture.bucket for picture in self.pictures).items()))

    def example_captions(self, count: int = 3, seed: int = 0) -> list[tuple[Path, str]]:
        """Some captions as a first epoch might use them, each with its picture's path."""
        rng = random.Random(seed)
        return [
            (picture.path, final_caption(picture.caption, picture.subset, rng, trigger=self.trigger))
            for picture in self.training[:count]
        ]


def datasets_for_folder(folder: str | Path, settings: Settings) -> DatasetConfig:
    """The datasets for a folder of pictures, or for a parent of folders named like 10_cat.

    Repeats and class come from such names; everything else from `settings`, reg_data_dir included. Raises
    `SettingsError` for a missing folder.
    """
    return datasets_from_folders(settings.replace(train_data_dir=str(folder)))


def scan(datasets: DatasetConfig, trigger: str = "") -> Scan:
    """Finds the pictures of every subset. Unreadable pictures become problems, and the rest is used.

    Only headers and the ends of files are read; a file with a suspicious end is decoded. Raises `AtelierError` when a
    folder is missing, when there are no training pictures, or when there is neither a caption nor a trigger word.
    """
    found = Scan(datasets, trigger.strip())
    for index, dataset in enumerate(datasets.datasets):
        _scan_dataset(found, index, dataset)
    if not found.training:
        raise AtelierError(_no_pictures(found))
    if not found.trigger and not any(picture.caption for picture in found.training):
        raise AtelierError(
            "None of the pictures has a caption, and there is no trigger word. Enter a trigger word, or write what "
            "each picture shows into a .txt file of the same name."
        )
    return found


def _scan_dataset(found: Scan, index: int, dataset: Dataset) -> None:
    buckets = Buckets.of(dataset)
    seen: set[tuple[Path, str | None]] = set()
    for subset in dataset.subsets:
        folder = expanded(subset.image_dir)
        if subset.num_repeats < 1:
            found.problems.append(PictureProblem(folder, f"{folder}: the folder is not used, since its repeats are 0."))
            continue
        if (folder, subset.metadata_file) in seen:
            found.problems.append(PictureProblem(folder, f"{folder}: the folder is named twice but used only once."))
            continue
        seen.add((folder, subset.metadata_file))
        _scan_subset(found, index, subset, folder, buckets)


def _scan_subset(found: Scan, index: int, subset: Subset, folder: Path, buckets: Buckets) -> None:
    if not subset.image_dir:
        raise AtelierError("A subset has no image_dir. Name the folder of its pictures there.")
    paths = list_pictures(folder)
    if not paths:
        found.problems.append(PictureProblem(folder, f"{folder}: there are no pictures in this folder."))
    metadata = _metadata(subset)
    masks = _masks(subset)
    for path in paths:
        try:
            size = check_picture(path)
            fit = buckets.fit(size)
        except AtelierError as error:
            reason = str(error) if str(path) in str(error) else f"{path}: {error}; replace it or remove it."
            found.problems.append(PictureProblem(path, reason))
            continue
        mask = masks.get(path.stem)
        if masks and mask is None:
            found.problems.append(PictureProblem(path, f"{path}: it has no mask picture, so all of it is learned."))
        caption = find_caption(path, subset, metadata)
        found.pictures.append(
            Picture(path, size, caption.text, caption.source, fit.bucket, fit.resized, subset, index, mask)
        )


def _metadata(subset: Subset) -> dict[str, str] | None:
    if not subset.metadata_file:
        return None
    path = expanded(subset.metadata_file)
    try:
        return read_metadata(path)
    except (ValueError, RecursionError) as error:
        sentence = f"{path}: the metadata_file cannot be read ({error}). It must be a JSON file of captions."
        raise AtelierError(sentence) from error


def _masks(subset: Subset) -> dict[str, Path]:
    """The mask pictures by the names of their pictures."""
    if not subset.conditioning_data_dir:
        return {}
    return {path.stem: path for path in list_pictures(expanded(subset.conditioning_data_dir))}


def _no_pictures(found: Scan) -> str:
    folders = [subset.image_dir for subset in found.datasets.subsets if not subset.is_reg]
    where = ", ".join(folders) or "the dataset"
    unreadable = [problem for problem in found.problems if problem.path.suffix]
    if unreadable:
        listed = "\n".join(problem.reason for problem in unreadable[:5])
        return f"None of the pictures in {where} can be read:\n{listed}"
    return f"There are no pictures in {where}. Choose a folder with PNG, JPEG, WebP, BMP or AVIF pictures."
