"""docs/settings.md and the routes in docs/api.md are what the program makes of them now; its examples run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn")

from fastapi import FastAPI  # noqa: E402

from atelier.cli.docs_command import pages  # noqa: E402
from atelier.config.settings.option import Option  # noqa: E402
from atelier.config.settings.schema import options  # noqa: E402
from atelier.hosts.embedded.server import PageServer, make_app  # noqa: E402
from atelier.jobs.job import ACTIONS  # noqa: E402
from atelier.jobs.queue import Jobs  # noqa: E402
from atelier.jobs.record import STATES  # noqa: E402
from atelier.reference.api_page import routes, with_routes  # noqa: E402
from atelier.reference.markdown import escaped, table  # noqa: E402
from atelier.reference.settings_page import COLUMNS, setting_row  # noqa: E402
from atelier.training.run import train  # noqa: E402
from atelier.ui.server.routes import register  # noqa: E402
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, finished, job_named  # noqa: E402
from tests.support.training_fakes import TinyHost, tiny_settings, write_pictures  # noqa: E402

# -- what is made ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["settings.md", "api.md"])
def test_pages_are_as_the_program_makes_them(root: Path, name: str) -> None:
    text = (root / "docs" / name).read_text(encoding="utf-8")
    assert text == pages(root)[name], f"docs/{name} is old: python run.py docs writes it anew."


def test_every_setting_has_its_row(root: Path) -> None:
    text = (root / "docs" / "settings.md").read_text(encoding="utf-8")
    for option in options():
        assert text.count(f"| {escaped(option.label)} | `{option.key}` | ") == 1, option.key


@pytest.mark.parametrize(
    ("more", "row"),
    [
        ({"kind": "int", "default": 4, "minimum": 1, "maximum": 10_000}, "`4` | whole number, 1 to 10,000 | <b|c. |"),
        ({"kind": "float", "default": None, "minimum": 0.5}, "empty | number, at least 0.5 | <b|c. |"),
        ({"kind": "floats", "default": [1.5, 2.0], "maximum": 9}, "`1.5, 2.0` | list of numbers, at most 9 | <b|c. |"),
        ({"kind": "str", "default": "x", "choices": ("x", "y")}, "`x` | `x`, `y` | <b|c. |"),
        ({"kind": "bool", "default": False, "shown": False}, "`false` | true or false | <b|c. (Not in the tab.) |"),
        ({"kind": "strs", "default": [], "ours": True}, "empty | list of texts | <b|c. (Atelier's own.) |"),
    ],
)
def test_a_row_tells_default_bounds_and_remarks(more: dict[str, Any], row: str) -> None:
    option = Option(key="a_key", optional=False, group="Basics", label="A [b]", help="<b|c.", **more)
    assert table(COLUMNS, [setting_row(option)])[2] == f"| A \\[b\\] | `a_key` | {row}".replace("<b|c", "\\<b\\|c")


def test_the_marks_have_to_be_there(root: Path) -> None:
    text = (root / "docs" / "api.md").read_text(encoding="utf-8")
    assert with_routes(re.sub("### Runs.*?### ", "### ", text, flags=re.DOTALL)) == text
    with pytest.raises(ValueError, match="marks"):
        with_routes(text.replace("<!-- End", "<!-- The end"))


# -- what is written by hand -------------------------------------------------------------------------------------------


def test_fields_of_a_run_are_those_of_the_answers(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "api.md").read_text(encoding="utf-8")
    part = text[text.index("### A run") : text.index("## Routes")]
    jobs = Jobs(FakeHost(tmp_path), steered := Steered())
    job = jobs.submit(job_named("cat"))
    steered.finish()
    finished(jobs, job)
    first = [cell for line in part.splitlines() if line.startswith("| `") for cell in [line.split("|")[1]]]
    told = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    assert told == set(job.summary())
    spans = set(re.findall(r"`(\w+)`", part))
    assert spans >= {*STATES, *ACTIONS}
    news = job.record.view()
    answered = {route.path.rpartition("/")[2]: route.response_description for route in routes()}
    assert set(re.findall(r"`(\w+)`", answered["events"])) == set(news) - set(job.summary())
    for event in news["events"]:
        assert {name for name in event if name not in ("state", "message", "path")} <= spans, event
    jobs.close(PATIENCE)


# -- the examples ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, TinyHost, Path]]:
    """The address of the embedded WebUI with a tiny model, its host, and a folder of pictures."""
    host = TinyHost(tmp_path_factory.mktemp("data"))
    jobs = Jobs(host, train)
    started = threading.Event()

    def on_app(app: FastAPI) -> None:
        register(app, jobs, host)

    server = PageServer(uvicorn.Config(make_app(host, [], on_app), host="127.0.0.1", port=0, log_level="error"))
    server.when_ready = started.set
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/atelier/v1", host, write_pictures(host.folders.runs.parent / "pictures")
    jobs.close(PATIENCE)
    server.should_exit = True
    thread.join(PATIENCE)


def example(root: Path, language: str, changes: dict[str, str]) -> str:
    """The only block of code of a language in the API page, with each of `changes` found in it once."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", (root / "docs" / "api.md").read_text("utf-8"), re.M | re.S)
    for pattern, instead in changes.items():
        code, count = re.subn(pattern, lambda _, instead=instead: instead, code, flags=re.M | re.S)
        assert count == 1, pattern
    return str(code)


def asked(pictures: Path, name: str) -> dict[str, Any]:
    wanted = tiny_settings(pictures, output_name=name, sample_every_n_steps=2, sample_prompts="a zwx --s 1")
    return {option.key: value for option in options() if (value := getattr(wanted, option.key)) != option.default}


def run_it(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_python_example(root: Path, tiny: tuple[str, TinyHost, Path], tmp_path: Path) -> None:
    address, host, pictures = tiny
    code = example(
        root,
        "python",
        {
            r'^API = "[^"]*"': f'API = "{address}"',
            r"^SETTINGS = \{.*?^\}": f"SETTINGS = {asked(pictures, 'my_cat')!r}",
            r"^PAUSE = 2\.0": "PAUSE = 0.05",
        },
    )
    said = run_it([sys.executable, "-c", code], tmp_path).splitlines()
    assert said[-2].startswith("done 4 of 4 ") and said[-1] == "In a prompt: <lora:my_cat:1> zwx"
    assert (host.folders.lora / "my_cat.safetensors").is_file()
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert {name[:8] for name in names} >= {"00000002", "00000004"}
    assert all((tmp_path / "samples" / name).read_bytes().startswith(b"\x89PNG") for name in names)
    refused = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "my_cat-2 is free" in refused.stderr


def test_the_curl_example(root: Path, tiny: tuple[str, TinyHost, Path], tmp_path: Path) -> None:
    if not shutil.which("curl") or not shutil.which("bash"):
        pytest.skip("there is no curl or no bash on this machine")
    address, host, pictures = tiny
    code = example(
        root,
        "bash",
        {
            r"^API=\S+": f"API={address}",
            r"^SETTINGS='[^']*'": f"SETTINGS='{json.dumps(asked(pictures, 'by_curl'))}'",
            r"sleep 2": "sleep 0.1",
        },
    )
    run_it(["bash", "-e", "-c", code], tmp_path)
    assert (host.folders.lora / "by_curl.safetensors").is_file()
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert {name[:8] for name in names} >= {"00000002", "00000004"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
