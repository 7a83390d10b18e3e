"""What gathers beside the runs stays within bounds, and what a run needs is never removed."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier.data.tensor_cache import TensorCache
from atelier.jobs.housekeeping import (
    LATENTS,
    TEXT,
    UPLOADS,
    ignore_in_git,
    latent_bytes,
    prune,
    tidy,
    upload_bytes,
    upload_days,
)
from atelier.jobs.queue import Jobs
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, finished, job_named

DAY = 24 * 60 * 60.0
"""Seconds. Of its own, as a test that takes the day from the code cannot tell how long the code's day is."""


def aged(path: Path, days: float) -> Path:
    """`path`, as if it was used so many days ago."""
    when = time.time() - days * DAY
    os.utime(path, (when, when))
    return path


def upload(runs: Path, name: str, days: float, size: int = 1000) -> Path:
    folder = runs / UPLOADS / name
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(b"x" * size)
    return aged(folder, days)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_uploads_go_by_age_but_not_those_of_a_run(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    upload(runs, "new", 1)
    upload(runs, "old", 31)
    upload(runs, ".half.abc", 31)
    needed = upload(runs, "needed", 400)
    tidy(runs, tmp_path / "cache", [str(needed), ""])
    assert names(runs / UPLOADS) == ["needed", "new"]
    assert (needed / "1.png").is_file()


def test_uploads_go_by_size_the_longest_unused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    for number in range(5):
        upload(runs, f"{number} days", number)
    needed = upload(runs, "needed", 20)
    monkeypatch.setenv("ATELIER_UPLOAD_GB", str(3000 / 2**30))
    tidy(runs, tmp_path / "cache", [str(needed)])
    assert names(runs / UPLOADS) == ["0 days", "1 days", "needed"]


def test_uploads_stay_for_thirty_days(tmp_path: Path) -> None:
    for days in (29, 29.9, 30.1, 31):
        upload(tmp_path, f"{days} days", days)
    tidy(tmp_path, tmp_path / "cache", [])
    assert names(tmp_path / UPLOADS) == ["29 days", "29.9 days"]


@pytest.mark.parametrize(("text", "factor"), [(None, 1.0), ("many", 1.0), ("-1", 1.0), ("nan", 1.0), ("0", 0.0)])
def test_the_bounds_that_are_set_or_not(text: str | None, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 GB of dropped pictures and 10 GB of latents, unless somebody asks for others."""
    for name in ("ATELIER_UPLOAD_GB", "ATELIER_LATENTS_GB", "ATELIER_UPLOAD_DAYS"):
        monkeypatch.delenv(name, raising=False)
        if text is not None:
            monkeypatch.setenv(name, text)
    assert (upload_bytes(), latent_bytes()) == (factor * 20 * 2**30, factor * 10 * 2**30)
    assert upload_days() == factor * 30


def test_what_a_break_left_half_removed_goes_next_time(tmp_path: Path) -> None:
    upload(tmp_path, ".old.gone", 31)
    upload(tmp_path, "old", 32)
    for _ in range(2):
        tidy(tmp_path, tmp_path / "cache", [])
    assert names(tmp_path / UPLOADS) == []


@pytest.mark.parametrize(("text", "left"), [("0", []), ("400", ["old"]), ("many", []), ("-1", []), ("nan", [])])
def test_the_age_can_be_set(text: str, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(tmp_path, "old", 31)
    monkeypatch.setenv("ATELIER_UPLOAD_DAYS", text)
    tidy(tmp_path, tmp_path / "cache", [])
    assert names(tmp_path / UPLOADS) == left


def test_latents_that_were_read_last_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TensorCache(tmp_path / LATENTS, "vae")
    for number in range(4):
        cache.put(str(number), torch.full((4, 8, 8), float(number)))
        path = cache.path(str(number))
        assert path is not None
        aged(path, 10 - number)
    size = path.stat().st_size
    assert TensorCache(tmp_path / LATENTS, "vae").get("0") is not None
    monkeypatch.setenv("ATELIER_LATENTS_GB", str(2.5 * size / 2**30))
    tidy(tmp_path / "runs", tmp_path, [])
    again = TensorCache(tmp_path / LATENTS, "vae")
    assert [number for number in range(4) if str(number) in again] == [0, 3]


def test_what_cannot_be_removed_stays_and_the_next_goes(tmp_path: Path) -> None:
    paths = [aged(upload(tmp_path, str(number), 0), 9 - number) for number in range(3)]

    def remove(path: Path) -> None:
        if path.name == "0":
            raise PermissionError(13, "Permission denied")

    assert prune(paths, 1500, 1000, remove) == paths[1:]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    upload(tmp_path, "old", 31)
    elsewhere.mkdir()
    (elsewhere / "precious.png").write_bytes(b"x")
    (tmp_path / UPLOADS / "link").symlink_to(elsewhere)
    aged(elsewhere, 100)
    tidy(tmp_path, tmp_path / "cache", [])
    assert names(tmp_path / UPLOADS) == ["link"] and names(elsewhere) == ["precious.png"]


def test_a_run_that_ends_tidies_up(tmp_path: Path) -> None:
    host, train = FakeHost(tmp_path / "host"), Steered()
    runs = host.folders.runs
    upload(runs, "old", 31)
    waiting = upload(runs, "waiting", 31)
    jobs = Jobs(host, train)
    first = jobs.submit(job_named("first"))
    train.until("began first")
    config = job_named("second")
    config.datasets.datasets[0].subsets[0].image_dir = str(waiting)
    second = jobs.submit(config)
    train.step(1000)
    finished(jobs, first)
    train.until("began second")
    assert names(runs / UPLOADS) == ["waiting"]
    train.finish()
    finished(jobs, second)
    jobs.close(PATIENCE)
    assert names(runs / UPLOADS) == []


def test_prompt_embeddings_go_beyond_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_TEXT_GB", str(2500 / 2**30))
    folder = tmp_path / "cache" / TEXT / "ab"
    folder.mkdir(parents=True)
    for name, days in (("old", 3), ("older", 5), ("new", 1)):
        (folder / name).write_bytes(b"x" * 1000)
        aged(folder / name, days)
    tidy(tmp_path / "runs", tmp_path / "cache", [])
    assert names(folder) == ["new", "old"]


def test_the_webuis_git_passes_over_our_folder(tmp_path: Path) -> None:
    own = tmp_path / "atelier"
    ignore_in_git(own / "runs", own / "cache")
    assert not own.exists(), "nothing is made before it is needed"
    host = FakeHost(tmp_path)
    host.folders = replace(host.folders, runs=own / "runs", cache=own / "cache")
    jobs = Jobs(host, steered := Steered())
    job = jobs.submit(job_named("cat"))
    steered.finish()
    finished(jobs, job)
    jobs.close(PATIENCE)
    assert (own / ".gitignore").read_text(encoding="utf-8") == "*\n"
    (own / ".gitignore").write_text("mine", encoding="utf-8")
    ignore_in_git(own / "runs", own / "cache")
    assert (own / ".gitignore").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_not_ours_alone_gets_no_gitignore(tmp_path: Path) -> None:
    for runs, cache in ((tmp_path / "atelier" / "runs", tmp_path / "cache"), (tmp_path / "runs", tmp_path / "cache")):
        runs.mkdir(parents=True, exist_ok=True)
        ignore_in_git(runs, cache)
    assert list(tmp_path.rglob(".gitignore")) == []
