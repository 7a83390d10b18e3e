"""Writes caption files for pictures that have none, with the WebUI's own interrogator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.data.images import open_picture
from atelier.data.scan import Picture, scan_job
from atelier.hosts.contract import Host
from atelier.hosts.powers import caption


@dataclass(frozen=True)
class Described:
    """The progress: `done` of `total` pictures, and a sentence for each picture that could not be described."""

    done: int
    total: int
    problems: tuple[str, ...] = ()
    given_up: bool = False
    """True when the others were not tried, after the first one failed."""

    def __str__(self) -> str:
        if self.total == 0:
            return "Every picture has a caption already."
        written = self.done - len(self.problems)
        head = f"{written} of {self.total} pictures now have a caption file."
        if not self.finished:
            head = f"Describing picture {self.done + 1} of {self.total} …"
        return "\n".join([head, *self.problems])

    @property
    def finished(self) -> bool:
        return self.given_up or self.done == self.total


def describe(job: JobConfig, host: Host, captioner: str) -> Iterator[Described]:
    """Describes the job's uncaptioned pictures one by one, each in a turn of the host's queue.

    No file is overwritten. A picture that cannot be described is listed in the result. When the first picture cannot
    be described, the others are not tried. Raises `AtelierError` when there are no pictures.
    """
    waiting = uncaptioned(job)
    problems: list[str] = []
    yield Described(0, len(waiting))
    for number, picture in enumerate(waiting, 1):
        try:
            text = caption(host, open_picture(picture.path).image, captioner)
            write_caption(picture, text)
        except (AtelierError, OSError) as error:
            problems.append(f"{picture.path.name}: {error}")
            if number == 1:
                yield Described(1, len(waiting), tuple(problems), given_up=True)
                return
        yield Described(number, len(waiting), tuple(problems))


def uncaptioned(job: JobConfig) -> list[Picture]:
    """The training pictures without a caption file. Raises `AtelierError` when the job has no pictures.

    A job without captions and trigger word is allowed here, since its captions are about to be written.
    """
    seen = scan_job(job, job.trigger or "something")
    return [picture for picture in seen.training if picture.caption_source not in ("file", "metadata")]


def write_caption(picture: Picture, text: str) -> Path:
    """Writes the caption file of a picture. Raises `AtelierError` for an empty text, OSError when it cannot."""
    if not text.strip():
        raise AtelierError("the WebUI returned an empty caption")
    path = picture.path.with_suffix("." + (picture.subset.caption_extension or "txt").lstrip("."))
    with path.open("x", encoding="utf-8") as file:
        file.write(" ".join(text.split()) + "\n")
    return path
