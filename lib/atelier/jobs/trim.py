"""Frees what runs that have ended no longer need: states of a run whose file is safe, and old sample pictures."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from atelier.config.errors import AtelierError
from atelier.jobs.housekeeping import GB, limit_of, prune
from atelier.jobs.job import Job

log = logging.getLogger(__name__)


def sample_bytes() -> float:
    """Limit for the sample pictures of all runs that have ended, in bytes: ATELIER_SAMPLES_GB, else 2 GB."""
    return limit_of("ATELIER_SAMPLES_GB", 2.0) * GB


def trim(jobs: Iterable[Job]) -> None:
    """Trims the records of the `jobs` that have ended. Nothing is raised: what cannot be removed stays."""
    ended = [job for job in jobs if job.deletable]
    for job in ended:
        if not any((job.record.folder / "state").glob("*.safetensors")):
            continue
        with job.alone() as alone:
            try:
                if alone:
                    _drop_states(job)
            except OSError as error:
                log.warning("states of %s could not be removed: %s", job.id, error)
    old = [path for job in ended for path in _earlier_samples(job.record.folder / "samples")]
    for path in prune(old, sample_bytes(), float("inf"), lambda path: path.unlink(missing_ok=True)):
        next(job for job in ended if job.record.folder == path.parent.parent).forget_size()


def _drop_states(job: Job) -> None:
    """Removes all states of a run that is done, and all but the newest one of a run that can go on."""
    states = sorted((job.record.folder / "state").glob("*.safetensors"))
    if job.state == "done":
        if not states or not _final_file_is_safe(job):
            return
        shutil.rmtree(job.record.folder / "state")
    elif job.state == "stopped" and len(states) > 1 and _is_whole(states[-1]):
        for path in states[:-1]:
            path.unlink()
    else:
        return
    job.forget_size()


def _final_file_is_safe(job: Job) -> bool:
    """True when the last file of the run is where it was saved, and whole."""
    saved = job.record.newest_save() or {}
    if saved.get("save") != "final" or not isinstance(saved.get("path"), str):
        return False
    path = Path(saved["path"])
    if path.suffix == ".safetensors":
        return _is_whole(path)
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)


def _is_whole(path: Path) -> bool:
    """True for a .safetensors file as long as its header says."""
    from atelier.models.checkpoints.tensor_file import SafetensorsFile

    try:
        SafetensorsFile(path).close()
    except AtelierError:
        return False
    return True


def _earlier_samples(folder: Path) -> list[Path]:
    """The sample pictures of a run, but for those of its last step, which go on showing what came of it."""
    pictures = sorted(path for path in folder.glob("*.png") if path.stem.partition("-")[0].isdecimal())
    last = pictures[-1].stem.partition("-")[0] if pictures else ""
    return [path for path in pictures if path.stem.partition("-")[0] != last]
