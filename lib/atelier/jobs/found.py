"""The runs that the disk holds: those of earlier processes, and ids for new ones beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from atelier.jobs.job import Job, found_job, interruption
from atelier.jobs.lock import FolderLock


def found_jobs(runs: Path) -> dict[str, Job]:
    """The runs recorded below `runs`, oldest first, by id.

    One that was training is "interrupted" from now on, unless another process with the same folder trains it still.
    """
    folders = sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    jobs = {job.id: job for job in filter(None, map(found_job, folders))}
    for job in jobs.values():
        if job.is_open and job.state != "queued" and not job.record.newer:
            lock = FolderLock(job.record.folder)
            if lock.acquire():
                job.record.status("interrupted", interruption(job, "The WebUI ended"))
            else:
                job.elsewhere = True
            lock.release()
    return jobs


def new_id(name: str, runs: Path, known: Iterable[str]) -> str:
    """The name of a folder that sorts by age, whatever the clock does, and that neither `known` nor the disk has."""
    numbers = [int(match.group(1)) for job_id in known if (match := re.match(r"(\d{1,9})-", job_id))]
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40]
    number = max(numbers, default=0) + 1
    while (runs / (job_id := f"{number:05d}-{slug}")).exists():
        number += 1
    return job_id
