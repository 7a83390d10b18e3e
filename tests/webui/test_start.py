"""A WebUI that the tests start themselves: killed and started again, with a login, open to the network."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.webui.hosts import WebUI, kind_of, wait
from tests.webui.page import TAB, fill, open_page, open_tab

pytestmark = [pytest.mark.webui, pytest.mark.slow]


@pytest.fixture
def command(request: pytest.FixtureRequest) -> list[str]:
    """The words of --webui-start."""
    given = request.config.getoption("--webui-start")
    if not given or not request.config.getoption("--webui-dir"):
        pytest.skip("needs a command that starts a WebUI: run.py test --webui-start COMMAND --webui-dir DIR")
    return shlex.split(given)


@contextmanager
def started(command: list[str], folder: Path, log: Path, *flags: str) -> Iterator[tuple[WebUI, Any]]:
    """A WebUI on a free port, and a function that kills it at once. It is killed afterwards too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = len(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else 0
    with log.open("ab") as said:
        process = subprocess.Popen(
            [*command, "--port", str(port), *flags], stdout=said, stderr=said, start_new_session=True
        )

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    webui = WebUI(f"http://127.0.0.1:{port}", folder)
    try:

        def up() -> bool:
            said = log.read_text(encoding="utf-8", errors="replace")[began:]
            assert process.poll() is None, said[-3000:]
            # Not asked before it says that it is up: a request between two of its steps can end A1111's start.
            return "Startup time" in said and webui.is_up()

        wait(up, "the WebUI to start")
        yield webui, kill
    finally:
        kill()


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.getoption("--webui-dir") or "")


def model_is_loaded(webui: WebUI, **headers: str) -> None:
    if webui.kind.loads_when_drawing:
        webui.draw(steps=1)
    wait(lambda: webui.ask("/atelier/v1/model", **headers).get("loaded"), "the model")


def test_killed_and_resumed(command: list[str], folder: Path, pictures: Path, tmp_path: Path) -> None:
    name = "k" + uuid.uuid4().hex[:6]
    with started(command, folder, tmp_path / "log.txt") as (webui, kill):
        model_is_loaded(webui)
        run = webui.train(name, pictures, max_train_steps=8, save_every_n_steps=2)
        webui.until(run, "running", 3)
        kill()
    with started(command, folder, tmp_path / "log.txt") as (webui, _):
        model_is_loaded(webui)
        job = webui.job(run)
        assert job["state"] == "interrupted" and job["resumable"], job
        webui.press(run, "resume")
        webui.until(run, "running", 2)
        webui.until(run)
        webui.until(webui.train(f"{name}alone", pictures, max_train_steps=8))
    from safetensors.numpy import load_file

    one, two = (load_file(webui.loras / f"{name}{more}.safetensors") for more in ("", "alone"))
    assert all((one[key] == two[key]).all() for key in one)


def test_a_login_is_asked_for(command: list[str], folder: Path, tmp_path: Path) -> None:
    kind = kind_of(folder)
    with started(command, folder, tmp_path / "log.txt", *kind.login) as (webui, _):
        assert webui.ask("/atelier/v1/jobs").status == 401
        assert webui.ask("/atelier/v1/jobs", {"settings": {}}).status == 401
        wrong = base64.b64encode(kind.api_login.partition(":")[0].encode() + b":wrong").decode()
        assert webui.ask("/atelier/v1/jobs", Authorization=f"Basic {wrong}").status == 401
        right = base64.b64encode(kind.api_login.encode()).decode()
        assert webui.ask("/atelier/v1/jobs", Authorization=f"Basic {right}").status == 200
        form = b"username=anna&password=geheim"
        import urllib.request

        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        opener.open(urllib.request.Request(webui.address + "/login", form)).close()
        with opener.open(webui.address + "/atelier/v1/jobs") as answer:
            assert answer.status == 200


def test_open_to_the_network_names_no_folder(command: list[str], folder: Path, pictures: Path, tmp_path: Path) -> None:
    with started(command, folder, tmp_path / "log.txt", "--listen") as (webui, _):
        model_is_loaded(webui)
        settings = {"output_name": "open", "trigger": "zwx", "train_data_dir": str(pictures)}
        answer = webui.ask("/atelier/v1/jobs", {"settings": settings})
        assert answer.status == 403 and "train_data_dir" in answer["error"]
        with open_page(webui) as page:
            open_tab(page, TAB)
            fill(page, "train_data_dir", str(pictures))
            fill(page, "output_name", "open" + uuid.uuid4().hex[:6])
            page.locator("#atelier_train").click()
            page.locator("#atelier_message .atelier-error").get_by_text("open to the network").wait_for()


def test_another_data_folder(command: list[str], folder: Path, pictures: Path, tmp_path: Path) -> None:
    """--data-dir: models, extensions and everything written lie elsewhere."""
    data = tmp_path / "data folder"
    (data / "models").mkdir(parents=True)
    (data / "extensions").symlink_to(folder / "extensions", target_is_directory=True)
    for part in kind_of(folder).data:
        if (folder / part).is_dir():
            (data / part).symlink_to(folder / part, target_is_directory=True)
        else:
            shutil.copyfile(folder / part, data / part)
    with started(command, folder, tmp_path / "log.txt", "--data-dir", str(data)) as (webui, _):
        model_is_loaded(webui)
        webui.until(webui.train("elsewhere", pictures, max_train_steps=2))
        assert (data / "models" / "Lora" / "elsewhere.safetensors").exists()
        assert any((data / "atelier" / "runs").iterdir())
