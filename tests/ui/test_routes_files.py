"""POST /jobs takes what the commands import and train take, and names what it passes over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from atelier.config.imports.loading import load_job
from atelier.ui.server.security import Access
from tests.support.jobs_fakes import PATIENCE
from tests.ui.test_routes import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.train.finish()
    made.jobs.close(PATIENCE)


def send(site: Site, text: str) -> Any:
    return site.post("/jobs", content=text.encode(), headers={"content-type": "application/toml"})


STRANGE = """
train_data_dir = '{folder}'
output_name = "strange"
lr_restart_cycles = 2
batch_size = 2
"""
EASY = """
[general_args.args]
output_name = "easy"
[general_args.dataset_args]
resolution = 64
batch_size = 2
[optimizer_args.args.optimizer_args]
weight_decay = 0.02
betas = "0.9,0.95"
[[subsets]]
image_dir = '{folder}'
num_repeats = 5
"""


@pytest.mark.parametrize("text", [STRANGE, EASY])
def test_the_same_job_as_from_a_file(text: str, site: Site, tmp_path: Path) -> None:
    text = text.format(folder=site.pictures)
    answer = send(site, text)
    assert answer.status_code == 200, answer.text
    config = site.jobs.get(answer.json()["id"]).config
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    job = load_job(tmp_path / "x.toml")
    assert config.settings == job.settings and config.datasets == job.datasets
    remarks = [remark.partition(": ")[2] for remark in answer.json()["remarks"] if ", line" in remark]
    assert remarks == [note.partition(": ")[2] for note in job.notes if ", line" in note]
    if text.startswith("\ntrain"):
        assert len(remarks) == 2 and "did you mean train_batch_size?" in remarks[1]


def test_quoted_arguments_and_unknown_keys_in_json(site: Site) -> None:
    asked = {"class_prompt": "a photo of a cat", "num_class_images": 3, "lerning_rate": 1, "resume": False}
    answer = site.start("quoted", optimizer_args='"weight_decay=0.01" "betas=0.9,0.99"', **asked)
    assert answer.status_code == 200, answer.text
    settings = site.jobs.get(answer.json()["id"]).config.settings
    assert settings.optimizer_args == ["weight_decay=0.01", "betas=0.9,0.99"]
    assert settings.class_prompt == ["a photo of a cat"] and settings.resume is None
    assert any("lerning_rate" in remark and "learning_rate?" in remark for remark in answer.json()["remarks"])


@pytest.mark.parametrize("where", ["dataset_config = '{}'", "[a.b]\ndataset_config = '{}'"])
def test_a_stranger_has_no_file_of_the_machine_read(where: str, tmp_path: Path) -> None:
    site = Site(tmp_path, Access(paths=False))
    secret = tmp_path / "data.toml"
    secret.write_text("password = 'swordfish'", encoding="utf-8")
    try:
        answer = send(site, 'output_name = "x"\n' + where.format(secret.as_posix()))
        assert answer.status_code == 403 and "swordfish" not in answer.text
        piped = {"model": {"type": "sdxl"}, "adapter": {}, "dataset": secret.as_posix(), "output_name": "x"}
        answer = site.post("/jobs", content=json.dumps({"settings": piped}),
                           headers={"content-type": "application/json"})  # fmt: skip
        assert answer.status_code in (400, 403) and "swordfish" not in answer.text
    finally:
        site.train.finish()
        site.jobs.close(PATIENCE)
