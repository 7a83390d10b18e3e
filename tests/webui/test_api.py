"""In a running WebUI: the routes are on its API page, and refuse in sentences."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.webui.hosts import WebUI, wait

pytestmark = pytest.mark.webui


def test_the_routes_are_on_the_api_page(webui: WebUI) -> None:
    paths = webui.ask("/openapi.json")["paths"]
    for path, method in (
        ("/atelier/v1/jobs", "get"),
        ("/atelier/v1/jobs", "post"),
        ("/atelier/v1/jobs/{job_id}/events", "get"),
        ("/atelier/v1/jobs/{job_id}/samples/{file}", "get"),
        ("/atelier/v1/jobs/{job_id}/{action}", "post"),
    ):
        assert paths[path][method]["summary"] and paths[path][method]["description"]
    assert webui.ask("/docs").status == 200


def test_the_loaded_model(webui: WebUI) -> None:
    answer = webui.ask("/atelier/v1/model")
    assert answer["loaded"] and answer["family"] in ("sd1", "sd2", "sdxl") and answer["refusal"] is None


def test_a_run_from_toml(webui: WebUI, pictures: Path) -> None:
    name = "a" + uuid.uuid4().hex[:6]
    lines = [
        f'output_name = "{name}"',
        'trigger = "zwx"',
        "max_train_steps = 2",
        "network_train_unet_only = true",
        "[general]",
        "resolution = 64",
        "[[datasets]]",
        "[[datasets.subsets]]",
        f"image_dir = '{pictures}'",
    ]
    started = webui.ask("/atelier/v1/jobs", "\n".join(lines).encode(), Content_Type="application/toml")
    assert started.status == 200, started
    webui.until(started["id"])
    assert (webui.loras / f"{name}.safetensors").exists()
    again = webui.ask("/atelier/v1/jobs", "\n".join(lines).encode(), Content_Type="application/toml")
    assert again.status == 409 and again["free"] != name


def test_a_checkpoint_of_the_whole_model_is_listed(webui: WebUI, pictures: Path) -> None:
    name = "c" + uuid.uuid4().hex[:6]
    # Adafactor keeps the least: a machine that tests in has no memory for two moments of every weight.
    settings = {"max_train_steps": 1, "learning_rate": 1e-6, "optimizer_type": "AdaFactor", "train_whole_model": True}
    run = webui.train(name, pictures, **settings)
    webui.until(run)

    def listed() -> str | None:
        models = webui.ask("/sdapi/v1/sd-models")["answer"]
        return next((model["filename"] for model in models if Path(model["filename"]).stem == name), None)

    file = Path(wait(listed, "the checkpoint in the list", 60))
    for path in file.parent.glob(f"{name}*"):
        path.unlink()
    webui.ask("/sdapi/v1/refresh-checkpoints", {})


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        ({"output_name": "../outside"}, 400, "output"),
        ({"output_name": "ok", "train_data_dir": "/no/such/folder"}, 400, "folder"),
        ({"output_name": "ok", "max_train_steps": -1}, 400, "max_train_steps"),
    ],
)
def test_refusals(webui: WebUI, pictures: Path, settings: dict[str, object], status: int, said: str) -> None:
    asked = {"trigger": "zwx", "train_data_dir": str(pictures), "resolution": "64,64", **settings}
    answer = webui.ask("/atelier/v1/jobs", {"settings": asked})
    if answer.status == 200:  # found out when the run begins
        run = answer["id"]
        job = wait(lambda: found if (found := webui.job(run))["state"] == "failed" else None, "the refusal")
        assert said in job["message"]
        return
    assert answer.status == status and said in answer["error"], answer


def test_another_site_is_refused(webui: WebUI) -> None:
    answer = webui.ask("/atelier/v1/jobs", {"settings": {}}, Origin="http://elsewhere.example")
    assert answer.status == 403


def test_no_path_leads_out_of_the_samples(webui: WebUI) -> None:
    run = webui.ask("/atelier/v1/jobs")["jobs"][-1]["id"]
    for file in ("..%2Fjob.json", "job.json", "..%5C..%5Cconfig.json"):
        assert webui.ask(f"/atelier/v1/jobs/{run}/samples/{file}").status == 404
