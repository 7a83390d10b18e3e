"""Scans the folders of a run before training: pictures, sizes, captions, buckets, and problems with them."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atelier.config.datasets import Dataset, DatasetConfig, Subset, datasets_from_folders
from atelier.config.errors import AtelierError, FieldError, few
from atelier.config.files.legacy_text import Guess, agreed
from atelier.config.files.paths import expanded
from atelier.config.job import JobConfig
from atelier.config.settings.schema import Settings
from atelier.data.buckets import Buckets, Size
from atelier.data.captions import Caption, caption_of, final_caption, find_caption, read_metadata
from atelier.data.endings import unread, unread_sentence
from atelier.data.found.captions import said_of
from atelier.data.found.folders import nothing_in, passed_over
from atelier.data.found.masks import is_black
from atelier.data.images import list_pictures
from atelier.data.wholeness import check_picture

OnPicture = Callable[[int, int], None]
"""Called with the number of the picture that is looked at, from 1, and how many its folder has."""


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
    left_out: bool = True
    """False for a remark about a picture that is used, or about a whole folder."""

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


def scan_job(job: JobConfig, trigger: str | None = None, on_picture: OnPicture | None = None) -> Scan:
    """`scan` of a job's datasets. `trigger`: another trigger word than the job's."""
    settings = job.settings
    parents = [expanded(text) for text in (settings.train_data_dir, settings.reg_data_dir) if text]
    return scan(job.datasets, job.trigger if trigger is None else trigger, parents, settings.masked_loss, on_picture)


def scan(
    datasets: DatasetConfig,
    trigger: str = "",
    parents: Sequence[Path] = (),
    masked_loss: bool = True,
    on_picture: OnPicture | None = None,
) -> Scan:
    """Finds the pictures of every subset. Unreadable pictures become problems, and the rest is used.

    `parents`: folders that were given as train_data_dir or reg_data_dir, whose folders count by their names. Only
    headers and the ends of files are read; a file with a suspicious end is decoded, and so is a mask. Raises
    `AtelierError` when a folder is missing, when there are no training pictures, when all masks are black, or when
    there is neither a caption nor a trigger word.
    """
    found = Scan(datasets, trigger.strip())
    looking = _Looking(found, frozenset(parents), masked_loss, on_picture)
    for index, dataset in enumerate(datasets.datasets):
        looking.at_dataset(index, dataset)
    looking.finish()
    if not found.training:
        raise FieldError(_no_pictures(found), "train_data_dir")
    if all(picture.path in looking.black for picture in found.training):
        raise AtelierError(
            "Nothing is white in the masks of all pictures, so nothing would be learned. Only white parts are learned."
        )
    if not found.trigger and not any(picture.caption for picture in found.training):
        raise FieldError(
            "None of the pictures has a caption, and there is no trigger word. Enter a trigger word, or write what "
            "each picture shows into a .txt file of the same name.",
            "trigger",
        )
    return found


class _Looking:
    """One scan in progress. `black`: the pictures whose mask is black."""

    def __init__(self, found: Scan, parents: frozenset[Path], masked_loss: bool, on_picture: OnPicture | None) -> None:
        self.found = found
        self._on_picture = on_picture
        self.black: set[Path] = set()
        self._parents = parents
        self._masked_loss = masked_loss
        self._unread: Counter[str] = Counter()
        self._unread_in: list[Path] = []
        self._used: set[Path] = set()

    def at_dataset(self, index: int, dataset: Dataset) -> None:
        buckets = Buckets.of(dataset)
        seen: set[tuple[Path, str | None]] = set()
        for subset in dataset.subsets:
            folder = expanded(subset.image_dir)
            self._used.add(folder)
            if subset.num_repeats < 1:
                self._remark(folder, f"{folder}: the folder is not used, since its repeats are 0.")
                continue
            if (folder, subset.metadata_file) in seen:
                self._remark(folder, f"{folder}: the folder is named twice but used only once.")
                continue
            seen.add((folder, subset.metadata_file))
            self._at_subset(index, subset, folder, buckets)

    def finish(self) -> None:
        """Says what was not used: pictures that cannot be read here, and folders beside the others."""
        if self._unread:
            self._remark(self._unread_in[0], unread_sentence(self._unread, self._unread_in))
        for parent in sorted(self._parents):
            folders = {picture.path.parent for picture in self.found.pictures}
            # Of a folder without pictures it was said already what lies in it; with a dataset file it is not used.
            if parent in folders or any(folder.parent == parent for folder in self._used):
                for sentence in passed_over(parent, self._used):
                    self._remark(parent, sentence)

    def _remark(self, path: Path, sentence: str) -> None:
        self.found.problems.append(PictureProblem(path, sentence, left_out=False))

    def _at_subset(self, index: int, subset: Subset, folder: Path, buckets: Buckets) -> None:
        if not subset.image_dir:
            raise AtelierError("A subset has no image_dir. Name the folder of its pictures there.")
        paths = list_pictures(folder)
        unread_here = unread(folder)
        if unread_here:
            self._unread += unread_here
            self._unread_in.append(folder)
        if not paths:
            reason = nothing_in(folder, folder in self._parents)
            self._remark(folder, f"{folder}: there are no pictures in this folder. {reason}".strip())
        metadata = self._metadata(subset)
        masks = _masks(subset)
        kept: list[Picture] = []
        captions: list[Caption] = []
        for done, path in enumerate(paths, 1):
            if self._on_picture is not None:
                self._on_picture(done, len(paths))
            try:
                size = check_picture(path)
                fit = buckets.fit(size)
            except AtelierError as error:
                reason = str(error) if str(path) in str(error) else f"{path}: {error}; replace it or remove it."
                self.found.problems.append(PictureProblem(path, reason))
                continue
            mask = masks.get(path.stem)
            self._look_at_mask(path, mask, bool(masks))
            caption = find_caption(path, subset, metadata)
            captions.append(caption)
            kept.append(Picture(path, size, caption.text, caption.source, fit.bucket, fit.resized, subset, index, mask))
        self.found.pictures += self._with_agreed_captions(kept, captions, subset)

    def _look_at_mask(self, path: Path, mask: Path | None, has_masks: bool) -> None:
        if has_masks and mask is None:
            self._remark(path, f"{path}: it has no mask picture, so all of it is learned.")
        elif mask is not None and self._masked_loss and is_black(mask):
            self.black.add(path)
            self._remark(path, f"{path}: its mask {mask} has nothing white in it, so nothing of it is learned.")

    def _with_agreed_captions(
        self, pictures: list[Picture], captions: Sequence[Caption], subset: Subset
    ) -> list[Picture]:
        """The pictures, with captions of unknown encodings read as suits all of them; says what was guessed."""
        unclear = [place for place, caption in enumerate(captions) if caption.guess and not caption.guess.silent]
        read = [place for place, caption in enumerate(captions) if caption.guess and caption.guess.bits]
        if not unclear:
            return pictures
        guesses = agreed([guess for place in read if (guess := captions[place].guess) is not None])
        told: dict[int, Guess] = dict(zip(read, guesses))
        for place, guess in told.items():
            text = caption_of(guess, subset.enable_wildcard)
            pictures[place] = dataclasses.replace(pictures[place], caption=text)
        said = []
        for place, caption in enumerate(captions):
            guess_of = told.get(place) or caption.guess
            if caption.file is not None and guess_of is not None:
                said.append((caption.file, guess_of))
        for sentence in said_of(said):
            self._remark(expanded(subset.image_dir), sentence)
        return pictures

    def _metadata(self, subset: Subset) -> dict[str, str] | None:
        if not subset.metadata_file:
            return None
        path = expanded(subset.metadata_file)
        heard: list[tuple[Path, Guess]] = []
        try:
            captions = read_metadata(path, lambda guess: heard.append((path, guess)))
        except (ValueError, RecursionError) as error:
            sentence = f"{path}: the metadata_file cannot be read ({error}). It must be a JSON file of captions."
            raise AtelierError(sentence) from error
        for sentence in said_of(heard):
            self._remark(path, sentence)
        return captions


def _masks(subset: Subset) -> dict[str, Path]:
    """The mask pictures by the names of their pictures."""
    if not subset.conditioning_data_dir:
        return {}
    return {path.stem: path for path in list_pictures(expanded(subset.conditioning_data_dir))}


def _no_pictures(found: Scan) -> str:
    folders = [subset.image_dir for subset in found.datasets.subsets if not subset.is_reg]
    where = few(folders) or "the dataset"
    unreadable = [problem for problem in found.problems if problem.left_out]
    if unreadable:
        listed = "\n".join(problem.reason for problem in unreadable[:5])
        return f"None of the pictures in {where} can be read:\n{listed}"
    reasons = [
        problem.reason.partition("there are no pictures in this folder.")[2].strip() or problem.reason
        for problem in found.problems
        if not problem.reason.endswith("there are no pictures in this folder.")
    ]
    if reasons:
        return "\n".join([f"There are no pictures to learn in {where}.", *dict.fromkeys(reasons)])
    return f"There are no pictures in {where}. Choose a folder with PNG, JPEG, WebP, BMP, TIFF or AVIF pictures."
