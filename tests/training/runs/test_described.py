"""What a file tells about its run, and datasets that differ from one another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atelier.config.datasets import DatasetConfig, datasets_from_folders
from atelier.config.job import JobConfig
from atelier.config.settings.schema import options
from tests.support.training_fakes import MemoryRecord, run, tiny_job, write_pictures


@pytest.mark.slow
def test_descriptions_are_in_the_file(tmp_path: Path) -> None:
    described = [option.key for option in options() if option.group == "Description" and option.kind == "str"]
    asked = {key: f"text of {key}" for key in described}
    done = run(tiny_job(write_pictures(tmp_path / "pictures"), max_train_steps=1, **asked), tmp_path)
    for key in described:
        name = "ss_training_comment" if key == "training_comment" else key.replace("metadata_", "modelspec.")
        assert done.metadata[name] == f"text of {key}"
    bare = run(tiny_job(write_pictures(tmp_path / "pictures"), max_train_steps=1, no_metadata=True), tmp_path / "bare")
    assert "ss_learning_rate" in done.metadata and "ss_learning_rate" not in bare.metadata


def test_datasets_of_their_own(tmp_path: Path) -> None:
    """A dataset file's values win over the settings: two datasets of two sizes make batches of two sizes."""
    job = tiny_job(write_pictures(tmp_path / "pictures"), max_train_epochs=1)
    small = datasets_from_folders(job.settings).datasets[0]
    others = write_pictures(tmp_path / "others", side=48, first=10)
    large = datasets_from_folders(job.settings.replace(train_data_dir=str(others))).datasets[0]
    large.resolution, large.max_bucket_reso, large.batch_size = (48, 48), 48, 4
    both = JobConfig(job.settings, DatasetConfig([small, large]))
    done = run(both, tmp_path, record=MemoryRecord(tmp_path / "record"))
    assert done.outcome.steps == 3
    described = json.loads(done.metadata["ss_datasets"])
    assert [entry["resolution"] for entry in described] == [[32, 32], [48, 48]]
