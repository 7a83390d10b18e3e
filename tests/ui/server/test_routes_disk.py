"""The routes of what is kept: the disk, deleted runs, and forms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from atelier.hosts.shared.login import Login
from atelier.ui.server.form import LastForm
from atelier.ui.server.request import Request
from atelier.ui.server.security import Access
from tests.ui.test_routes import V1, Site, site

__all__ = ["site"]


def test_a_run_is_deleted_when_it_has_ended(site: Site) -> None:
    run = site.start().json()
    site.train.until("running")
    refused = site.client.delete(f"{V1}/jobs/{run['id']}")
    assert (refused.status_code, run["deletable"]) == (409, False)
    assert "Stop it first" in refused.json()["error"]
    site.finish()
    listed = site.get("/jobs").json()
    assert listed["jobs"][0]["deletable"]
    assert listed["size"] == listed["jobs"][0]["size"] > 0
    foreign = site.client.delete(f"{V1}/jobs/{run['id']}", headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    answer = site.client.delete(f"{V1}/jobs/{run['id']}").json()
    assert answer["deleted"] == run["id"]
    assert answer["freed"] >= listed["size"]
    assert site.get("/jobs").json()["jobs"] == []
    assert site.get(f"/jobs/{run['id']}").status_code == 404
    assert (site.host.folders.lora / "cat.safetensors").is_file()


def test_what_is_on_the_disk_and_clearing_it(site: Site) -> None:
    for folder, size in (("latents/ab", 700), ("text/cd", 50)):
        (site.host.folders.cache / folder).mkdir(parents=True)
        (site.host.folders.cache / folder / "x.safetensors").write_bytes(b"x" * size)
    assert site.get("/storage").json()["caches"] == {"latents": 700, "text": 50, "class_pictures": 0}
    assert site.post("/storage/runs/clear").status_code == 404
    site.start()
    site.train.until("running")
    assert site.post("/storage/latents/clear").status_code == 409
    site.finish()
    answer = site.post("/storage/latents/clear").json()
    assert (answer["freed"], answer["caches"]["latents"], answer["caches"]["text"]) == (700, 0, 50)
    assert answer["runs"] == site.get("/jobs").json()["size"]


def test_the_newest_file_stands_in_the_list(site: Site) -> None:
    run = site.start().json()
    assert run["saved"] is None
    site.train.until("running")
    assert site.post(f"/jobs/{run['id']}/save").json()["asked"] in ("save", "")
    site.train.until("saved")
    site.finish()
    saved = site.get("/jobs").json()["jobs"][0]["saved"]
    assert (saved["name"], saved["label"], saved["checkpoint"], "path" in saved) == ("cat", "finished", False, False)
    events = site.get(f"/jobs/{run['id']}/events").json()["events"]
    assert [event["label"] for event in events if event["kind"] == "saved"] == ["step 0", "finished"]


def test_forms_of_the_tab_and_of_a_run(site: Site) -> None:
    assert site.get("/form").json()["values"] is None
    LastForm.of(site.jobs, site.host).keep(Request({"trigger": "zwx"}))
    assert site.get("/form").json()["values"] == {"trigger": "zwx"}
    run = site.start("dog", max_train_steps=7).json()
    form = site.get(f"/jobs/{run['id']}/form").json()
    assert (form["values"]["output_name"], form["values"]["max_train_steps"]) == ("dog", "7")
    assert form["values"]["train_data_dir"] == str(site.pictures)


def test_a_form_is_given_to_the_person_whose_it_is(tmp_path: Path) -> None:
    login = Login(SimpleNamespace(auth=True, tokens={"abc": "ann"}), SimpleNamespace(api_auth="bob:secret"))
    access = Access(user=lambda request: login.user(request.headers, request.cookies))
    site = Site(tmp_path, access)
    for user in ("ann", "bob"):
        LastForm.of(site.jobs, site.host).keep(Request({"trigger": f"of {user}"}, user=user))
    assert site.get("/form").json()["values"] is None
    assert site.get("/form", auth=("bob", "secret")).json()["values"] == {"trigger": "of bob"}
    assert site.get("/form", auth=("bob", "wrong")).json()["values"] is None
    site.client.cookies.set("access-token", "abc")
    assert site.get("/form").json()["values"] == {"trigger": "of ann"}
    site.jobs.close(5.0)


def test_a_webhook_is_shown_to_nobody_else(site: Site) -> None:
    run = site.start(webhook_url="http://127.0.0.1:1/secret").json()
    assert "secret" not in str(run)
    assert "secret" not in site.get(f"/jobs/{run['id']}").text
    assert "secret" not in site.get(f"/jobs/{run['id']}/form").text
