"""Datasets and subsets: which folders of pictures, how often, at which sizes and with which captions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.errors import Problem, SettingsError
from atelier.config.files.paths import expanded, is_folder
from atelier.config.settings.schema import Settings, parse_resolution


@dataclass
class Subset:
    """A folder of pictures and how they are used. Inherited values are already filled in."""

    image_dir: str = ""
    metadata_file: str | None = None
    num_repeats: int = 1
    class_tokens: str | None = None
    is_reg: bool = False
    caption_extension: str = ".txt"
    caption_separator: str = ","
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    shuffle_caption: bool = False
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    secondary_separator: str | None = None
    enable_wildcard: bool = False
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    token_warmup_min: int = 1
    token_warmup_step: float = 0.0
    flip_aug: bool = False
    color_aug: bool = False
    random_crop: bool = False
    face_crop_aug_range: list[float] | None = None
    alpha_mask: bool = False
    conditioning_data_dir: str | None = None
    resize_interpolation: str | None = None
    custom_attributes: dict[str, Any] = field(default_factory=dict)
    cache_info: bool = False
    caption_from_name: bool = False
    """Not in kohya's files: a picture without a caption file has its file name as caption."""
    loss_weight: float = 1.0
    """Not in kohya's files: weight of these pictures in the loss; for class pictures, times prior_loss_weight."""


@dataclass
class Dataset:
    """Subsets that share sizes and batches. `resolution` is (width, height) in pixels."""

    resolution: tuple[int, int] = (512, 512)
    batch_size: int = 1
    enable_bucket: bool = True
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    validation_split: float = 0.0
    validation_seed: int | None = None
    resize_interpolation: str | None = None
    network_multiplier: float = 1.0
    """The adapter's strength while pictures of this dataset are trained; not 0."""
    subsets: list[Subset] = field(default_factory=list)


@dataclass
class DatasetConfig:
    """Everything a run learns from."""

    datasets: list[Dataset] = field(default_factory=list)

    @property
    def subsets(self) -> list[Subset]:
        return [subset for dataset in self.datasets for subset in dataset.subsets]


def dataset_from_settings(settings: Settings) -> Dataset:
    """A dataset with the sizes of the training settings, without subsets. Raises `SettingsError` for a wrong size."""
    try:
        resolution = parse_resolution(settings.resolution)
    except ValueError as error:
        allowed = "write one side (512) or WIDTH,HEIGHT (512,768)"
        raise SettingsError([Problem("resolution", settings.resolution, allowed)]) from error
    return Dataset(
        resolution=resolution,
        batch_size=settings.train_batch_size,
        enable_bucket=settings.enable_bucket,
        min_bucket_reso=settings.min_bucket_reso,
        max_bucket_reso=settings.max_bucket_reso,
        bucket_reso_steps=settings.bucket_reso_steps,
        bucket_no_upscale=settings.bucket_no_upscale,
        validation_split=settings.validation_split,
        validation_seed=settings.validation_seed,
        resize_interpolation=settings.resize_interpolation,
    )


def subset_from_settings(settings: Settings, folder: str | Path, **changes: Any) -> Subset:
    """A subset over `folder` with the captions and augmentations of the training settings."""
    names = {item.name for item in dataclasses.fields(Subset)} & {item.name for item in dataclasses.fields(Settings)}
    shared = {name: getattr(settings, name) for name in names}
    shared["face_crop_aug_range"] = parse_range(settings.face_crop_aug_range)
    return Subset(**{**shared, "image_dir": str(folder), "num_repeats": settings.dataset_repeats, **changes})


def parse_range(text: str | None) -> list[float] | None:
    """ "2.0,4.0" -> [2.0, 4.0]; None for any other text."""
    try:
        low, high = (float(part) for part in (text or "").split(","))
    except ValueError:
        return None
    return [low, high]


_MOST_DIGITS = 6


def repeats_and_class(name: str) -> tuple[int, str | None] | None:
    """(repeats, class) of a folder's name as sd-scripts reads it: 10_dog, 10_ and 10. None for any other name."""
    number, _, rest = name.partition("_")
    if len(number.strip()) > _MOST_DIGITS:
        return None
    try:
        return max(0, int(number)), rest.strip() or None
    except ValueError:
        return None


def folders_in(parent: Path, key: str = "train_data_dir") -> list[tuple[Path, int | None, str | None]]:
    """The picture folders under `parent` as (folder, repeats, class): its folders named 10_name, or else `parent`.

    `parent` itself has no repeats of its own. `key` names the setting that gives it. Raises `SettingsError` when there
    is no such folder.
    """
    if not is_folder(parent):
        raise SettingsError([Problem(key, str(parent), "there is no such folder; give one with pictures")])
    named = [(path, repeats_and_class(path.name)) for path in sorted(parent.iterdir()) if path.is_dir()]
    found = [(path, *told) for path, told in named if told is not None]
    return [*found] or [(parent, None, None)]


def datasets_from_folders(settings: Settings) -> DatasetConfig:
    """The datasets made from the folders train_data_dir and reg_data_dir.

    Pictures without a caption get the class in their folder's name (10_class) as caption. The number in that name wins
    over dataset_repeats, as in sd-scripts. Raises `SettingsError` for a folder that is missing.
    """
    if not settings.train_data_dir:
        raise SettingsError([Problem("train_data_dir", None, "give a folder of pictures, or a dataset file")])
    dataset = dataset_from_settings(settings)
    if settings.in_json:
        dataset.subsets = [subset_from_settings(settings, settings.train_data_dir, metadata_file=settings.in_json)]
        return DatasetConfig([dataset])
    for key, parent, is_reg in (
        ("train_data_dir", settings.train_data_dir, False), ("reg_data_dir", settings.reg_data_dir, True),
    ):  # fmt: skip
        if not parent:
            continue
        for folder, repeats, tokens in folders_in(expanded(parent), key):
            subset = subset_from_settings(settings, folder, class_tokens=tokens, is_reg=is_reg)
            if repeats is not None:
                subset.num_repeats = repeats
            dataset.subsets.append(subset)
    return DatasetConfig([dataset])
