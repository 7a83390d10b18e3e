"""On a page that is open to the network without a login, requests name only the WebUI's own folders."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from atelier.ui.server.security import Access
from tests.ui.test_routes import Site


def test_open_to_the_network_only_own_folders_count(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", Access(paths=False))
    outside = tmp_path / "secret"
    outside.mkdir()
    uploads = site.host.folders.runs / "uploads"
    uploads.mkdir()
    (uploads / "link").symlink_to(outside)
    for settings in (
        {"train_data_dir": str(outside)},
        {"train_data_dir": str(tmp_path / "missing")},
        {"train_data_dir": str(uploads / ".." / ".." / ".." / "secret")},
        {"train_data_dir": str(uploads / "link")},
        {"train_data_dir": str(uploads), "network_weights": str(outside / "a.safetensors")},
        {"train_data_dir": str(uploads), "base_weights": [str(outside / "a.safetensors")]},
        {"train_data_dir": str(uploads), "sample_prompts": str(outside / "prompts.txt")},
        {"train_data_dir": str(uploads), "output_dir": str(outside)},
        {"train_data_dir": str(uploads), "optimizer_type": "some.module.Class"},
        {"train_data_dir": str(uploads), "network_args": [f" preset = {outside / 'layers.TOML'}"]},
    ):
        answer = site.post("/jobs", json={"settings": {"output_name": "x", **settings}})
        assert answer.status_code == 403, settings
        assert "without a login" in answer.json()["error"]
    subsets = {"datasets": [{"subsets": [{"image_dir": str(outside)}]}]}
    assert site.post("/jobs", json={"settings": {"output_name": "x"}, **subsets}).status_code == 403
    answer = site.post("/jobs", json={"settings": {"output_name": "x", "train_data_dir": str(uploads)}})
    assert answer.status_code == 200, answer.text
    assert "train_data_dir" not in answer.json()["settings"]
    site.finish()


def test_a_folder_whose_name_only_begins_as_an_own_one_is_outside(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", Access(paths=False))
    runs = site.host.folders.runs
    for name in ("runs-evil", "runs.old", "runsaway"):
        beside = runs.with_name(name)
        beside.mkdir()
        for pictures in (beside, beside / "uploads"):
            answer = site.start(train_data_dir=str(pictures))
            assert answer.status_code == 403, pictures
            assert "train_data_dir" in answer.json()["error"] and "outside" in answer.json()["error"]
    assert site.start(train_data_dir=str(runs)).status_code == 200, "an own folder itself is not outside of it"
    site.finish()


@pytest.mark.parametrize(
    ("path", "status"),
    [("~", 403), ("~/pictures", 403), ("/", 403), (".", 403), ("~nobody of this name/x", 400), ("a\0b", 400)],
)
def test_open_to_the_network_other_ways_to_write_a_path(tmp_path: Path, path: str, status: int) -> None:
    site = Site(tmp_path / "site", Access(paths=False))
    for key in ("train_data_dir", "reg_data_dir", "vae", "resume", "in_json"):
        settings = {"output_name": "x", "train_data_dir": str(site.host.folders.runs), key: path}
        answer = site.post("/jobs", json={"settings": settings})
        assert answer.status_code == status, key
        assert key in answer.json()["error"].lower()
    assert site.jobs.jobs() == []


@pytest.mark.parametrize("key", ["image_dir", "metadata_file", "conditioning_data_dir"])
def test_open_to_the_network_every_path_of_a_data_set_counts(tmp_path: Path, key: str) -> None:
    """Also where all else in it is the WebUI's own, and in a later data set than the first."""
    site = Site(tmp_path / "site", Access(paths=False))
    inside = site.host.folders.runs / "uploads"
    inside.mkdir()
    (inside / "own").touch() if key == "metadata_file" else (inside / "own").mkdir()
    own = {"image_dir": str(inside), key: str(inside / "own")}
    foreign = {"image_dir": str(inside), key: str(tmp_path / "secret")}
    for subsets in ([[foreign]], [[own, foreign]], [[own], [foreign]]):
        body = {"settings": {"output_name": "x"}, "datasets": [{"subsets": each} for each in subsets]}
        answer = site.post("/jobs", json=body)
        assert answer.status_code == 403, subsets
        assert key in answer.json()["error"] and "outside the WebUI's folders" in answer.json()["error"]
    assert site.jobs.jobs() == []
    answer = site.post("/jobs", json={"settings": {"output_name": "x"}, "datasets": [{"subsets": [own]}]})
    assert answer.status_code == 200, answer.text
    site.finish()


def test_open_to_the_network_nobody_has_this_machine_call_an_address(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", Access(paths=False))
    settings = {"output_name": "x", "train_data_dir": str(site.host.folders.runs), "webhook_url": "http://10.0.0.1/"}
    answer = site.post("/jobs", json={"settings": settings})
    assert answer.status_code == 403
    assert "Webhook" in answer.json()["error"]
    assert site.jobs.jobs() == []
