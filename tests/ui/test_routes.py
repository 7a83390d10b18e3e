"""The routes under /atelier/v1, driven as a program and as a page would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from starlette.routing import Mount

from atelier.hosts.shared.login import Login
from atelier.jobs.queue import Jobs
from atelier.ui.server.routes import register
from atelier.ui.server.security import Access, Refused
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, finished, job_named, keep_state, model

V1 = "/atelier/v1"


class Site:
    """An application with a page mounted at its root, our routes, and a client."""

    def __init__(self, root: Path, access: Access | None = None) -> None:
        self.host = FakeHost(root)
        self.train = Steered()
        self.jobs = Jobs(self.host, self.train)
        self.app = FastAPI()

        async def page(scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("the page")(scope, receive, send)

        self.app.router.routes.append(Mount("", app=page))
        register(self.app, self.jobs, self.host, access)
        self.client = TestClient(self.app)
        self.pictures = root / "pictures"
        self.pictures.mkdir()

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(V1 + path, **more)

    def post(self, path: str, **more: Any) -> Any:
        return self.client.post(V1 + path, **more)

    def start(self, name: str = "cat", **settings: Any) -> Any:
        asked = {"output_name": name, "trigger": "zwx", "train_data_dir": str(self.pictures), **settings}
        return self.post("/jobs", json={"settings": asked})

    def finish(self) -> None:
        self.train.finish()
        finished(self.jobs, *self.jobs.jobs())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.train.finish()
    made.jobs.close(PATIENCE)


def test_a_run_from_start_to_done(site: Site) -> None:
    answer = site.start("my cat", max_train_steps=7)
    assert answer.status_code == 200, answer.text
    started = answer.json()
    assert started["settings"]["max_train_steps"] == 7
    at = f"/jobs/{started['id']}"
    site.train.until("running")
    assert site.post(at + "/sample").status_code == 200
    site.train.until("sampled")
    site.train.step(3)
    site.train.until("step 3")
    news = site.get(at + "/events").json()
    assert (news["state"], news["progress"]["step"], news["trigger"]) == ("running", 3, "zwx")
    assert [row[0] for row in news["losses"]["rows"]] == [1, 2, 3]
    assert news["actions"] == ["stop", "pause", "save", "sample"]
    site.finish()
    more = site.get(f"{at}/events?since={news['last_event']}&losses={news['losses']['cursor']}").json()
    assert not more["losses"]["reset"]
    assert [row[0] for row in more["losses"]["rows"]] == list(range(4, 11))
    assert [event["kind"] for event in more["events"]] == ["saved", "status"]
    assert more["events"][0]["checkpoint"] is False
    assert all("path" not in event for event in more["events"])
    picture = next(event for event in news["events"] if event["kind"] == "sample")
    assert site.get(f"{at}/samples/{picture['file']}").content.startswith(b"\x89PNG")
    listed = site.get("/jobs").json()
    assert [(job["name"], job["state"]) for job in listed["jobs"]] == [("my cat", "done")]
    assert (listed["running"], listed["queued"]) == (None, [])


def test_a_run_from_toml_with_datasets_in_it(site: Site) -> None:
    body = f"""
[basics]
output_name = "from_toml"
trigger = "zwx"
[learning]
learning_rate = 2e-4
[[datasets]]
resolution = 256
  [[datasets.subsets]]
  image_dir = '{site.pictures}'
  num_repeats = 5
"""
    answer = site.post("/jobs", content=body.encode(), headers={"content-type": "application/toml"})
    assert answer.status_code == 200, answer.text
    config = site.jobs.get(answer.json()["id"]).config
    assert config.settings.learning_rate == 2e-4
    assert config.datasets.datasets[0].resolution == (256, 256)
    assert config.datasets.subsets[0].num_repeats == 5


def test_the_buttons(site: Site) -> None:
    at = "/jobs/" + site.start().json()["id"]
    site.train.until("running")
    assert site.post(at + "/pause").json()["asked"] in ("pause", "")
    site.train.until("paused")
    assert site.get(at).json()["actions"] == ["stop", "resume"]
    assert site.post(at + "/resume").status_code == 200
    assert site.post(at + "/save").status_code == 200
    site.train.until("saved")
    assert site.post(at + "/stop").status_code == 200
    site.finish()
    assert site.get(at).json()["state"] == "stopped"
    keep_state(site.jobs.jobs()[0].record, 1)
    assert site.get(at).json()["actions"] == ["resume"]


def test_what_is_not_there(site: Site) -> None:
    at = "/jobs/" + site.start().json()["id"]
    for path in ("/jobs/none", "/jobs/none/events", at + "/samples/00000001-0.png"):
        assert site.get(path).status_code == 404
        assert site.get(path).json()["error"].startswith("There is no")
    assert site.post(at + "/explode").status_code == 404
    assert site.post("/jobs/none/stop").status_code == 404


@pytest.mark.parametrize(
    "name", ["..%2fjob.json", "%2e%2e%2fjob.json", "..%5c..%5cjob.json", "job.json", "00000001-0.png.txt", "%00.png"]
)
def test_only_sample_pictures_are_read(site: Site, name: str) -> None:
    at = "/jobs/" + site.start().json()["id"]
    answer = site.get(f"{at}/samples/{name}")
    assert b"version" not in answer.content
    assert answer.status_code == 404 or answer.text == "the page"


def test_a_taken_name_is_answered_with_a_free_one(site: Site) -> None:
    (site.host.folders.lora / "cat.safetensors").write_bytes(b"kept")
    answer = site.start("cat")
    assert (answer.status_code, answer.json()["free"]) == (409, "cat-2")
    assert site.start("cat-2").status_code == 200


def test_what_a_run_trains_is_told(site: Site) -> None:
    assert site.start("small").json()["trains"] == "lora"
    whole = site.start("whole", train_whole_model=True).json()
    assert whole["trains"] == "checkpoint"
    again = Jobs(site.host, Steered())
    assert [job.summary()["trains"] for job in again.jobs()] == ["lora", "checkpoint"]
    again.close(PATIENCE)


def test_wrong_settings_are_named(site: Site) -> None:
    answer = site.start("../up", network_dim=-3, learning_rate="fast")
    assert answer.status_code == 400
    assert "learning_rate" in answer.json()["error"]
    assert [problem["key"] for problem in answer.json()["problems"]] == ["learning_rate", "network_dim"]
    answer = site.start("../up")
    assert (answer.status_code, answer.json()["problems"][0]["key"]) == (400, "output_name")
    assert site.start("fine", network_dim=-3).json()["problems"][0]["key"] == "network_dim"
    assert site.jobs.jobs() == []


def test_without_a_model_nothing_is_started(site: Site) -> None:
    site.host.model = None
    assert "No model is loaded" in site.start().json()["error"]
    site.host.model = model(refusal="Turn off fp8 weights in the settings.")
    answer = site.start()
    assert (answer.status_code, answer.json()["error"]) == (409, "Turn off fp8 weights in the settings.")
    assert site.get("/model").json()["refusal"] == "Turn off fp8 weights in the settings."


def test_settings_are_listed(site: Site) -> None:
    listed = site.get("/settings").json()["settings"]
    rank = next(option for option in listed if option["key"] == "network_dim")
    assert rank["minimum"] == 1
    assert rank["help"]


def test_the_report_is_text_without_names(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(site.host), "name", "a1111")
    monkeypatch.setattr("sys.argv", ["launch.py", "--medvram", "--ckpt", "/home/jane/x.ckpt"])
    site.host.model = model("jane the great", refusal="Turn off fp8 weights for jane the great.")
    job = site.jobs.submit(job_named("whiskers"))
    site.finish()
    job.record.message(f"whiskers is not in {site.pictures}: see log.", "error")
    answer = site.get("/report")
    assert answer.headers["content-type"].startswith("text/plain")
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    for told in (
        "  AUTOMATIC1111 1\n", "flags: --medvram --ckpt …\n", "model: sd1, epsilon, float32 on cpu\n",
        "refused: Turn off fp8 weights for <model>.", "error: <name> is not in <path>: see log.", "All runs: 1 done.",
    ):  # fmt: skip
        assert told in answer.text, answer.text
    assert "whiskers" not in answer.text and "jane" not in answer.text and str(site.pictures) not in answer.text
    site.host.loaded_model = lambda: {}["gone"]  # type: ignore[assignment]
    assert "model: not known (KeyError" in site.get("/report").text


def test_the_page_below_still_answers(site: Site) -> None:
    assert site.client.get("/").text == "the page"
    assert site.client.get("/anything/else").text == "the page"


def test_routes_are_documented(site: Site) -> None:
    schema = site.client.get("/openapi.json").json() if site.client.get("/openapi.json").text != "the page" else None
    schema = schema or site.app.openapi()
    start = schema["paths"][V1 + "/jobs"]["post"]
    assert start["tags"] == ["Atelier"]
    assert "application/toml" in start["requestBody"]["content"]
    ours = [route for path, methods in schema["paths"].items() if path.startswith(V1) for route in methods.values()]
    assert len(ours) == 15
    assert all(route["description"] and route["summary"] for route in ours)


def test_registering_again_replaces_the_routes(site: Site, tmp_path: Path) -> None:
    """A WebUI may build its page anew in the same application, also while it serves."""
    site.start("first")
    count = len(site.app.router.routes)
    other = FakeHost(tmp_path / "other")
    register(site.app, Jobs(other, Steered()), other)
    assert len(site.app.router.routes) == count
    assert site.get("/jobs").json()["jobs"] == []


# -- who may ask ---------------------------------------------------------------------------------------------------


def test_another_site_cannot_start_or_stop(site: Site) -> None:
    at = "/jobs/" + site.start().json()["id"]
    foreign = [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://[broken"},
        {"origin": "https://evil.example", "x-atelier": "1"},
    ]
    for headers in foreign:
        for path in ("/jobs", at + "/stop"):
            answer = site.post(path, headers=headers, json={"settings": {"output_name": "evil"}})
            assert answer.status_code == 403, headers
            assert "another site" in answer.json()["error"]
    assert len(site.jobs.jobs()) == 1
    assert not site.jobs.jobs()[0].control.stopping
    own: list[dict[str, str]] = [
        {},
        {"sec-fetch-site": "same-origin"},
        {"origin": "http://testserver"},
        {"origin": "https://public.example", "x-forwarded-host": "public.example"},
    ]
    for headers in own:
        assert site.post(at + "/stop", headers=headers).status_code == 200, headers


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_what_a_form_can_send_is_not_taken(site: Site, kind: str) -> None:
    body = json.dumps({"settings": {"output_name": "evil"}}).encode()
    assert site.post("/jobs", content=body, headers={"content-type": kind}).status_code == 415


def test_what_only_our_page_can_send(site: Site) -> None:
    """A form's content type is taken with our own header, which no form can send; letters may be large or small."""
    at = "/jobs/" + site.start().json()["id"]
    for kind in ("TEXT/PLAIN; charset=utf-8", "Multipart/Form-Data"):
        assert site.post(at + "/stop", content=b"", headers={"content-type": kind}).status_code == 415
        sent = {"content-type": kind, "x-atelier": "1"}
        assert site.post(at + "/stop", content=b"", headers=sent).status_code == 200
    assert site.post(at + "/stop", headers={"sec-fetch-site": "none"}).status_code == 200, "typed by the person"
    assert site.get(at, headers={"sec-fetch-site": "cross-site"}).status_code == 200, "nothing changes by reading"


def test_the_guard_is_asked_on_every_route(tmp_path: Path) -> None:
    def guard(request: Request) -> None:
        if request.headers.get("authorization") != "yes":
            raise Refused(401, "Log in to the WebUI first.")

    site = Site(tmp_path, Access(guard=guard))
    checked = 0
    for route in site.app.state.atelier_routes:
        for method in route.methods - {"HEAD"}:
            path = route.path.format(job_id="x", action="stop", file="00000000-0.png", cache="text")
            assert site.client.request(method, path).status_code == 401, path
            assert site.client.request(method, path, headers={"authorization": "yes"}).status_code != 401
            checked += 1
    assert checked == 15


LOCAL_NAMES = ["localhost:7860", "LOCALHOST", "127.0.0.1:7860", "127.1.2.3", "[::1]:7860", "192.168.0.5", "a.localhost"]


def test_a_name_pointed_at_this_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of evil.example whose name leads here is of our own origin to the browser; its name gives it away."""
    site = Site(tmp_path, Access(local=True))
    for name in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", ""):
        for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/settings")):
            headers = {"host": name, "sec-fetch-site": "same-origin", "x-forwarded-host": "localhost"}
            answer = site.client.request(method, V1 + path, headers=headers)
            assert answer.status_code == 403, name
    for name in LOCAL_NAMES:
        assert site.get("/jobs", headers={"host": name}).status_code == 200, name
    monkeypatch.setenv("ATELIER_HOSTS", "my.proxy, other.proxy")
    assert site.get("/jobs", headers={"host": "My.Proxy:443"}).status_code == 200
    assert site.get("/jobs", headers={"host": "evil.example"}).status_code == 403


def test_names_that_only_end_or_begin_as_this_machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, Access(local=True))
    monkeypatch.setenv("ATELIER_HOSTS", " , my.proxy,")
    for name in (
        "evillocalhost",
        "localhostevil",
        "a.localhost.b",
        "my.proxy.evil",
        "evilmy.proxy",
        "1.2.3.4.5",
        "",
        " ",
    ):
        assert site.get("/jobs", headers={"host": name}).status_code == 403, name
    for name in ("localhost.", "localhost.:7860", "my.proxy.", "0.0.0.0", "[::ffff:127.0.0.1]"):
        assert site.get("/jobs", headers={"host": name}).status_code == 200, name


@pytest.mark.parametrize(
    ("flags", "local"),
    [({}, True), ({"listen": True}, False), ({"share": True}, False), ({"gradio_auth": "a:b"}, False),
     ({"api_auth": "a:b"}, False), ({"server_name": "0.0.0.0"}, False)],
)  # fmt: skip
def test_where_the_name_matters(flags: dict[str, Any], local: bool) -> None:
    assert Login(None, SimpleNamespace(**flags)).local is local


def test_bodies_are_small(site: Site) -> None:
    large = b"x" * (2**20 + 1)
    assert site.post("/jobs", content=large, headers={"content-type": "application/toml"}).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 2**17

    assert site.post("/jobs", content=endless(), headers={"content-type": "application/json"}).status_code == 413


def test_a_body_of_just_the_size_is_read(site: Site) -> None:
    json_type = {"content-type": "application/json"}

    def pieces() -> Iterator[bytes]:
        yield from [b" " * 2**18] * 4

    for body in (b" " * 2**20, pieces()):
        answer = site.post("/jobs", content=body, headers=json_type)
        assert answer.status_code == 400 and "not valid JSON" in answer.json()["error"]


@pytest.mark.parametrize("size", ["-1", "x", "1e3", "²", "٣", "9" * 20, "1048577"])
def test_a_size_that_is_none_is_too_large(site: Site, size: str) -> None:
    headers = {"content-type": "application/json", "content-length": size.encode()}
    assert site.post("/jobs", content=b"{}", headers=headers).status_code == 413


def test_a_body_of_more_keys_than_settings_have(site: Site) -> None:
    answer = site.post("/jobs", json={"settings": {f"key{number}": 1 for number in range(1001)}})
    assert answer.status_code == 400 and "20,000 in all" in answer.json()["error"]
    assert "problems" not in answer.json(), "it is not looked at key by key"


def test_a_kind_that_the_webui_cannot_use_is_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(site.host), "name", "forge")
    lycoris = {"network_module": "lycoris.kohya"}
    assert site.start("plain").json()["remarks"] == []
    answer = site.start("scaled", **lycoris, network_args=["algo=ia3", "preset=ia3"])
    assert answer.json()["remarks"][0].startswith("This WebUI (Forge) does not load")
    refused = site.start("unknown", **lycoris, network_args=["algo=glora"])
    assert refused.status_code == 400 and "algo=glora cannot be trained" in refused.json()["error"]
