"""What runs and caches take on the disk is told, and goes when a person wants it to."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.config.errors import AtelierError
from atelier.jobs.files import size_of
from atelier.jobs.lock import FolderLock
from atelier.jobs.queue import Jobs
from atelier.jobs.storage import cache_sizes, clear_cache, remove_folder
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, finished, job_named


def filled(folder: Path, *sizes: int) -> Path:
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        (folder / f"{number}.bin").write_bytes(b"x" * size)
    return folder


def test_sizes_count_files_once(tmp_path: Path) -> None:
    folder = filled(tmp_path / "a", 10, 20)
    filled(folder / "b", 5)
    (folder / "link").symlink_to(folder / "0.bin")
    (folder / "round").symlink_to(folder)
    assert size_of(folder) == 35
    assert size_of(folder / "0.bin") == 10
    assert size_of(tmp_path / "missing") == 0


def test_a_cache_is_cleared_alone(tmp_path: Path) -> None:
    filled(tmp_path / "latents" / "ab", 100)
    filled(tmp_path / "text" / "cd", 30)
    assert cache_sizes(tmp_path) == {"latents": 100, "text": 30, "class_pictures": 0}
    assert clear_cache(tmp_path, "latents") == 100
    assert cache_sizes(tmp_path) == {"latents": 0, "text": 30, "class_pictures": 0}
    assert clear_cache(tmp_path, "latents") == 0
    with pytest.raises(AtelierError, match=r"no cache '\.\.'"):
        clear_cache(tmp_path / "text", "..")
    assert size_of(tmp_path) == 30


def test_what_an_earlier_attempt_left_does_not_hinder(tmp_path: Path) -> None:
    filled(tmp_path / ".run.gone", 5)
    remove_folder(filled(tmp_path / "run", 10))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_webui_goes_on_with_is_not_deleted(tmp_path: Path) -> None:
    jobs = Jobs(FakeHost(tmp_path), steered := Steered())
    job = jobs.submit(job_named("cat"))
    steered.finish()
    finished(jobs, job)
    lock = FolderLock(job.record.folder)
    assert lock.acquire()
    with pytest.raises(AtelierError, match="another WebUI"):
        jobs.delete(job.id)
    lock.release()
    jobs.delete(job.id)
    jobs.close(PATIENCE)


def test_a_run_that_has_ended_is_deleted_and_its_file_stays(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    jobs = Jobs(host, steered := Steered())
    cat, dog = jobs.submit(job_named("cat")), jobs.submit(job_named("dog"))
    steered.until("began cat")
    for job in (cat, dog):
        assert not job.deletable
        with pytest.raises(AtelierError, match="has not ended"):
            jobs.delete(job.id)
    with pytest.raises(AtelierError, match="cat is using it"):
        jobs.clear_cache("latents")
    steered.finish()
    finished(jobs, cat, dog)
    (cat.record.folder / "log.txt").write_bytes(b"x" * 5000)
    assert cat.deletable
    assert jobs.delete(cat.id) > 5000
    assert not cat.record.folder.exists()
    assert (host.folders.lora / "cat.safetensors").is_file()
    assert [job.id for job in jobs.jobs()] == [dog.id]
    with pytest.raises(AtelierError, match="no run"):
        jobs.delete(cat.id)
    assert jobs.submit(job_named("cat-2")).id not in (cat.id, dog.id)
    jobs.close(PATIENCE)
    assert [job.name for job in Jobs(host, steered).jobs()] == ["dog", "cat-2"]
