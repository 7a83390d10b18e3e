"""What a run no longer needs goes when it has ended, and never anything that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from atelier.config.job import JobConfig
from atelier.jobs.control import Control
from atelier.jobs.files import size_of
from atelier.jobs.job import Job, found_job
from atelier.jobs.lock import FolderLock
from atelier.jobs.queue import Jobs
from atelier.jobs.record import LARGEST_LOG, Record
from atelier.jobs.trim import trim
from tests.support.jobs_fakes import PATIENCE, FakeHost, finished, job_named

MB = 2**20


def write_tensors(path: Path, size: int) -> Path:
    """A whole .safetensors file with about `size` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weights": torch.zeros(size, dtype=torch.uint8)}, path)
    return path


def ended(root: Path, state: str, file: str = "whole") -> Job:
    """A run with two states that ended in `state`; its final file is "whole", "cut" off or "missing"."""
    record = Record.create(root / "run", {}, {"name": "cat"})
    for step in (5, 10):
        write_tensors(record.folder / "state" / f"{step:09d}.safetensors", 1000)
    path = write_tensors(root / "lora" / "cat.safetensors", 1000)
    record.saved(path, 10, 1, "final" if state == "done" else "asked")
    if file == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif file == "missing":
        path.unlink()
    record.status(state, "Ended.")
    job = found_job(record.folder)
    assert job is not None
    return job


def states(job: Job) -> list[str]:
    return sorted(path.stem for path in (job.record.folder / "state").glob("*"))


def test_states_of_a_run_that_is_done_go(tmp_path: Path) -> None:
    job = ended(tmp_path, "done")
    before = job.size
    trim([job])
    assert states(job) == []
    assert job.size < before - 2000
    assert (tmp_path / "lora" / "cat.safetensors").is_file()


@pytest.mark.parametrize("file", ["cut", "missing"])
def test_states_stay_while_the_file_is_not_safe(tmp_path: Path, file: str) -> None:
    job = ended(tmp_path, "done", file)
    trim([job])
    assert states(job) == ["000000005", "000000010"]


def test_a_run_that_can_go_on_keeps_its_newest_state(tmp_path: Path) -> None:
    job = ended(tmp_path, "stopped")
    trim([job])
    assert (states(job), job.kept_step, job.resumable) == (["000000010"], 10, True)


@pytest.mark.parametrize("state", ["interrupted", "failed", "running"])
def test_a_run_that_did_not_end_by_itself_keeps_all(tmp_path: Path, state: str) -> None:
    job = ended(tmp_path, state)
    trim([job])
    assert states(job) == ["000000005", "000000010"]


def test_a_newest_state_that_is_damaged_does_not_cost_the_other(tmp_path: Path) -> None:
    job = ended(tmp_path, "stopped")
    newest = job.record.folder / "state" / "000000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    trim([job])
    assert states(job) == ["000000005", "000000010"]


def test_a_run_that_another_webui_goes_on_with_is_left_alone(tmp_path: Path) -> None:
    job = ended(tmp_path, "done")
    lock = FolderLock(job.record.folder)
    assert lock.acquire()
    trim([job])
    lock.release()
    assert states(job) == ["000000005", "000000010"]
    Record.open(job.record.folder).status("stopped", "By another process.")
    trim([job])
    assert states(job) == ["000000005", "000000010"]


def test_old_samples_go_beyond_the_limit_and_the_last_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_SAMPLES_GB", "0")
    job = ended(tmp_path, "done")
    record = job.record
    for step in (0, 5, 10):
        for index in (0, 1):
            record.sample(step, index, "a zwx", Image.new("RGB", (8, 8)))
    trim([job])
    assert sorted(path.name for path in (record.folder / "samples").iterdir()) == ["00000010-0.png", "00000010-1.png"]
    again = Record.open(record.folder)
    assert [event["step"] for event in again.view()["events"] if event["kind"] == "sample"] == [10, 10]
    monkeypatch.setenv("ATELIER_SAMPLES_GB", "1")
    record.sample(3, 0, "a zwx", Image.new("RGB", (8, 8)))
    trim([job])
    assert (record.folder / "samples" / "00000003-0.png").is_file()


def test_a_log_keeps_its_newer_half(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run", {}, {"name": "cat"})
    (record.folder / "log.txt").write_bytes(b"x" * (LARGEST_LOG + 1))
    record.log("the newest line")
    record.log("one more")
    text = (record.folder / "log.txt").read_text(encoding="utf-8")
    assert len(text) < LARGEST_LOG // 2 + 200
    assert "the newest line" in text
    assert text.rstrip().endswith("one more")


def test_eleven_runs_take_little(tmp_path: Path) -> None:
    """Each keeps two states of 12 MB while it trains, which is twice what a run on the demo base has."""
    host = FakeHost(tmp_path)

    def train(job: JobConfig, host: Any, record: Record, control: Control) -> None:
        record.status("running")
        for step in (50, 100):
            write_tensors(record.folder / "state" / f"{step:09d}.safetensors", 12 * MB)
            record.sample(step, 0, "a zwx", Image.effect_noise((64, 64), 50))
        record.losses([(step, 1.0, {"unet": 1e-4}) for step in range(1, 101)])
        stops = job.name in ("run3", "run7")
        record.saved(write_tensors(host.folders.lora / f"{job.name}.safetensors", 4 * MB), 100, 1, "final")
        record.status("stopped" if stops else "done", "Ended.")

    jobs = Jobs(host, train)
    for number in range(11):
        finished(jobs, jobs.submit(job_named(f"run{number}")))
    jobs.close(PATIENCE)
    assert [len(states(job)) for job in jobs.jobs()] == [1 if number in (3, 7) else 0 for number in range(11)]
    assert 24 * MB < size_of(host.folders.runs) < 26 * MB
    assert size_of(tmp_path) < 150 * MB
