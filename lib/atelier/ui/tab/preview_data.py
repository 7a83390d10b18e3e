"""The data of the picture summary: what the tab shows before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier.config.job import JobConfig
from atelier.data.found.enlarged import enlarged_sentence
from atelier.data.scan import scan_job

Size = tuple[int, int]
EXAMPLES = 3


@dataclass(frozen=True)
class FoundPicture:
    """One picture: sizes as (width, height) in pixels."""

    path: Path
    size: Size
    bucket: Size
    captioned: bool


@dataclass(frozen=True)
class Found:
    """The pictures of a job. `buckets`: each size with the number of pictures cropped to it, most pictures first."""

    pictures: list[FoundPicture]
    captioned: int
    class_count: int
    buckets: list[tuple[Size, int]]
    examples: list[str]
    problems: list[str]
    notes: list[str]
    steps: int

    @property
    def count(self) -> int:
        return len(self.pictures)


def look_at(job: JobConfig, notes: Sequence[str] = ()) -> Found:
    """Looks through the job's folders. Raises `AtelierError` when nothing in them can be trained."""
    seen = scan_job(job)
    pictures = [
        FoundPicture(picture.path, picture.size, picture.bucket, picture.caption_source in ("file", "metadata", "name"))
        for picture in seen.training
    ]
    buckets = Counter(picture.bucket for picture in pictures)
    return Found(
        pictures=pictures,
        captioned=sum(picture.captioned for picture in pictures),
        class_count=len(seen.regularisation),
        buckets=buckets.most_common(),
        examples=[text for _, text in seen.example_captions(EXAMPLES)],
        problems=[
            *filter(None, [enlarged_sentence(seen.training)]),
            *(_short(str(told), job) for told in seen.problems),
        ],
        notes=list(notes),
        steps=_steps(job, sum(picture.repeats for picture in seen.training)),
    )


def _steps(job: JobConfig, pictures_an_epoch: int) -> int:
    """The number of steps of the job; an estimate with epochs, since buckets may leave batches unfilled."""
    settings = job.settings
    if not settings.max_train_epochs:
        return settings.max_train_steps
    batches = -(-pictures_an_epoch // max(1, settings.train_batch_size))
    return settings.max_train_epochs * max(1, batches // max(1, settings.gradient_accumulation_steps))


def _short(problem: str, job: JobConfig) -> str:
    """A problem with shorter paths: without the folder of pictures, which the person has just entered."""
    for subset in job.datasets.subsets:
        for ending in ("/", "\\"):
            problem = problem.replace(subset.image_dir.rstrip("/\\") + ending, "")
    return problem
