"""The form comes back as it was, for the person whose it is, and a run's settings come back into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atelier.config.job import JobConfig, job_from_settings
from atelier.config.settings.schema import Settings
from atelier.jobs.queue import Jobs
from atelier.ui.fields import shown_options
from atelier.ui.server.form import FORMS, LastForm, form_of
from atelier.ui.server.request import Request, job_of
from tests.support.jobs_fakes import FakeHost
from tests.support.training_fakes import write_pictures
from tests.ui.test_fields import other_value


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", count=2, side=16)


def back(job: JobConfig, host: FakeHost) -> JobConfig:
    """The job that the tab makes of the form of `job`."""
    form = form_of(job)
    return job_of(Request(form.values, caption_from_name=form.caption_from_name, imported=form.imported), host)


def test_the_form_is_kept_over_a_restart(tmp_path: Path, pictures: Path) -> None:
    host = FakeHost(tmp_path)
    values = {"train_data_dir": str(pictures), "trigger": "zwx ü", "flip_aug": True, "max_train_steps": "12x"}
    LastForm.of(Jobs(host), host).keep(Request(values, caption_from_name=True))
    form = LastForm.of(Jobs(host), host).read()
    assert form is not None
    assert (form.values, form.caption_from_name, form.imported) == (values, True, {})


def test_each_person_has_a_form(tmp_path: Path) -> None:
    forms = LastForm(tmp_path, "fake")
    for user in ("", "ann", "bob/../ann"):
        forms.keep(Request({"trigger": f"of {user}", "train_data_dir": f"/home/{user}"}, user=user))
    again = LastForm(tmp_path, "fake")
    for user in ("", "ann", "bob/../ann"):
        form = again.read(user=user)
        assert form is not None
        assert form.values["trigger"] == f"of {user}"
    assert again.read(user="carl") is None
    assert LastForm(tmp_path, "another WebUI").read() is None
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / FORMS}
    assert not any("ann" in path.name or "bob" in path.name for path in tmp_path.rglob("*"))


def test_an_open_page_keeps_no_place(tmp_path: Path) -> None:
    values = {"trigger": "zwx", "train_data_dir": "/home/ann", "reg_data_dir": "/home/bob", "sample_prompts": "a.txt"}
    forms = LastForm(tmp_path, "fake")
    forms.keep(Request(values, paths=False, imported={"datasets": [{"subsets": [{"image_dir": "/home/ann"}]}]}))
    assert "/home" not in (tmp_path / FORMS / "fake.json").read_text(encoding="utf-8")
    forms.keep(Request(values))  # the same WebUI, when it was not open
    form = forms.read(paths=False)
    assert form is not None
    assert (form.values, form.imported) == ({"trigger": "zwx"}, {})


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"version": 2, "values": {}}', '{"version": 1, "values": []}',
        '{"version": 1, "values": {"trigger": 5, "none": "x", "flip_aug": true}, "imported": {"datasets": [5]}}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / FORMS).mkdir()
    (tmp_path / FORMS / "fake.json").write_text(content, encoding="utf-8")
    form = LastForm(tmp_path, "fake").read()
    assert form is None or (form.values, form.imported) == ({"flip_aug": True}, {})


def test_a_form_that_cannot_be_written_stays_in_memory(tmp_path: Path) -> None:
    (tmp_path / FORMS).write_text("in the way")
    forms = LastForm(tmp_path, "fake")
    forms.keep(Request({"trigger": "zwx"}))
    form = forms.read()
    assert form is not None
    assert form.values == {"trigger": "zwx"}


def test_every_setting_of_a_run_comes_back(tmp_path: Path, pictures: Path) -> None:
    together = ("network_train_text_encoder_only", "dim_from_weights", "cache_text_encoder_outputs")
    shown = [known for known in shown_options() if known.key not in (*together, "webhook_url")]
    values = {known.key: other_value(known) for known in shown}
    values |= {"train_data_dir": str(pictures), "reg_data_dir": None, "in_json": None, "base_weights_multiplier": []}
    values |= {"max_timestep": 900, "max_bucket_reso": 2048, "lr_scheduler": "cosine"}
    job = job_from_settings(Settings(**values))
    assert {known.key for known in shown} | {*together} == set(form_of(job).values)
    assert back(job, FakeHost(tmp_path)) == job


def test_captions_from_names_come_back(tmp_path: Path, pictures: Path) -> None:
    job = job_from_settings(Settings(output_name="cat", train_data_dir=str(pictures)))
    for subset in job.datasets.subsets:
        subset.caption_from_name = True
    form = form_of(job)
    assert (form.caption_from_name, form.imported) == (True, {})
    assert back(job, FakeHost(tmp_path)) == job


def test_datasets_of_a_file_come_back(tmp_path: Path, pictures: Path) -> None:
    job = job_from_settings(Settings(output_name="cat", train_data_dir=str(pictures)))
    job.datasets.datasets[0].resolution = (320, 256)
    job.extra = {"some_key": 1}
    form = form_of(job)
    assert form.values["train_data_dir"] == ""
    assert json.loads(json.dumps(form.as_json()))["imported"]["extra"] == {"some_key": 1}
    again = back(job, FakeHost(tmp_path))
    assert (again.datasets, again.extra) == (job.datasets, job.extra)
    closed = form_of(job, paths=False)
    assert str(pictures) not in json.dumps(closed.as_json())
