"""The whole report: what helps is in it, what is private is not, whatever is missing or damaged."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from atelier import __version__
from atelier.config.settings.schema import options
from atelier.jobs.job import new_job
from atelier.jobs.record import Record
from atelier.report import machine
from atelier.report.private import PUBLIC
from atelier.report.report import report
from atelier.report.runs import LOG_LINES, TOLD
from tests.support.jobs_fakes import job_named, model

PROMPTS = "a portrait of zwx jane in her old kitchen --n blurry hands\nanother picture of nobody"
PRIVATE = (
    "janedoe", "jane doe", "janes-tower", "kitchen", "blurry", "nobody", "zwx", "whiskers", "secret-base", "hunter2",
    "hf_abcdefgh12345678", "192.168.7.9", "jane.example", "holiday", "birthday",
)  # fmt: skip
"""None of these may be in a report."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of somebody who is not to be known, on a machine with a name."""
    folder = tmp_path / "home" / "janedoe"
    folder.mkdir(parents=True)
    for key in ("USER", "USERNAME", "LOGNAME"):
        monkeypatch.setenv(key, "janedoe")
    for key in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(key, str(folder))
    monkeypatch.setattr(platform, "node", lambda: "janes-tower.lan")
    monkeypatch.setattr(machine, "_said", lambda *_: "")
    monkeypatch.setattr(machine, "_torch", lambda: None)
    return folder


def failed_run(home: Path, name: str = "my whiskers") -> Record:
    """A run that failed, with everything private in what it says."""
    prompts = home / "prompts.txt"
    prompts.write_text("only in this file: holiday sunset\n", encoding="utf-8")
    config = job_named(
        name,
        trigger="zwx whiskers",
        sample_prompts=PROMPTS if name == "my whiskers" else str(prompts),
        metadata_author="Jane Doe",
        class_prompt=["a photo of a tabby"],
        network_dim=24,
        optimizer_type="Lion",
    )
    config.settings.train_data_dir = str(home / "birthday, party")
    config.datasets.datasets[0].subsets[0].image_dir = str(home / "birthday, party" / "10_whiskers cat")
    config.extra = {"huggingface_token": "hunter2", "wandb_run_name": "holiday run"}
    base = model("secret-base.safetensors [abc123]")
    record = new_job(f"00001-{name.replace(' ', '_')}", config, base, home / "data" / "runs").record
    record.progress(3, 100, 1, 2, 0.5, 48.5, 3 << 30)
    record.message("Looking at the pictures of janedoe.")
    record.message(f"birthday 1.png is left out: {home}/birthday, party/birthday 1.png: it is damaged.", "warning")
    record.message("The sample picture 'holiday sunset' could not be drawn: hf_abcdefgh12345678", "warning")
    record.event("sample", step=1, index=0, prompt="a portrait of zwx jane in her old kitchen", file="x.png")
    try:
        raise RuntimeError(
            f"CUDA out of memory while reading {home}/birthday, party/10_whiskers cat/birthday 2.png for "
            "'portrait of zwx jane in her old kitchen' from 192.168.7.9, see https://jane.example/x on janes-tower; "
            "secret-base and Jane Doe and my_whiskers-step00000004"
        )
    except RuntimeError as error:
        record.log_exception(error)
        record.status("failed", f"RuntimeError: {error} The details are in {record.folder / 'log.txt'}.")
    return record


def told(home: Path, *flags: str) -> str:
    return report([home / "data" / "runs"], "AUTOMATIC1111 v1.10.1", list(flags), ["model: sd1, float16 on cuda"])


def private_in(text: str) -> list[str]:
    return [word for word in PRIVATE if word in text.lower()]


def test_what_helps_is_told_and_what_is_private_is_not(home: Path) -> None:
    failed_run(home)
    text = told(home, "--medvram", "--port", "7861", "--ckpt", f"{home}/secret-base.safetensors", "--api-auth=jane:x")
    assert private_in(text) == []
    assert str(home) not in text and str(home.parent) not in text
    for line in (
        f"  {__version__}",
        "  AUTOMATIC1111 v1.10.1",
        "  flags: --medvram --port 7861 --ckpt … --api-auth=…",
        "  model: sd1, float16 on cuda",
        "failed at step 3 of 100, 3.0 GB at most",
        "network_dim 24",
        "optimizer_type Lion",
        ".png is left out: <path>: it is damaged.",
        "RuntimeError: CUDA out of memory while reading <path>",
        "Traceback (most recent call last):",
        "in failed_run",
        "  All runs: 1 failed.",
    ):
        assert line in text, line
    assert f"Python {platform.python_version()}" in text and "torch " in text
    assert "Looking at the pictures" not in text


def test_prompts_of_a_file_are_private_too(home: Path) -> None:
    record = failed_run(home, "whiskers2")
    record.message("only in this file, not elsewhere", "error")
    text = told(home)
    assert private_in(text) == [] and "in this file" not in text


@pytest.mark.parametrize("name", ["request.json", "job.json", "events.jsonl"])
def test_a_damaged_record_keeps_its_secrets(home: Path, name: str) -> None:
    """What cannot be parsed is still searched for what is private."""
    record = failed_run(home)
    for each in {name, *(("settings.toml", "dataset.toml") if name == "request.json" else ())}:
        path = record.folder / each
        text = path.read_text(encoding="utf-8")
        path.write_text(text[:-20], encoding="utf-8")
    text = told(home)
    assert private_in(text) == []
    assert "CUDA out of memory" in text


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_torch", lambda: None)
    text = report([tmp_path / "none"], "Forge", [])
    assert "There are no runs." in text and "flags: none known" in text
    damaged = tmp_path / "runs" / "00001-x"
    damaged.mkdir(parents=True)
    (damaged / "job.json").write_bytes(b'{"about": {"created": 1e400}, "state": ["jane"], "progress": {"step": "x"}}')
    (damaged / "request.json").write_text('{"settings": {"optimizer_type": ["jane"], "network_dim": "jane"}}')
    (damaged / "events.jsonl").write_bytes(b'{"level": "error", "text": 3}\n[1]\n\xff\n')
    (damaged / "log.txt").write_bytes(b"\xff\xfe nothing\n")
    text = report([tmp_path / "runs"], "Forge", [])
    assert "All runs: 1 unknown." in text and "at step 0 of 0" in text
    assert "jane" not in text


def test_only_the_newest_and_not_endlessly(home: Path) -> None:
    runs = home / "data" / "runs"
    for number in range(TOLD + 2):
        record = Record.create(runs / f"{number:05d}-x", {}, {"name": f"name{number}"})
        record.log("an older entry")
        record.log("\n".join(f"line {line} of {number}" for line in range(500)))
        record.status("failed", "It failed.")
        os.utime(record.folder / "job.json", (number, number))
    text = told(home)
    assert "an older entry" not in text
    assert text.count("It failed.") == TOLD and text.count("line 499 of") == TOLD
    assert f"line 499 of {TOLD + 1}" in text and "line 499 of 1\n" not in text
    assert text.count(f" of {TOLD + 1}\n") <= LOG_LINES and "line 300 of" not in text
    assert f"All runs: {TOLD + 2} failed." in text


def test_settings_of_text_are_private_unless_said_otherwise() -> None:
    """A new setting of free text is private by itself; one that is public is one that there is."""
    text = {option.key for option in options() if option.kind in ("str", "strs")}
    assert text >= PUBLIC
    assert not PUBLIC & {"output_name", "trigger", "sample_prompts", "class_prompt", "train_data_dir"}


# -- the machine ---------------------------------------------------------------------------------------------------


def test_card_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    about = SimpleNamespace(name="NVIDIA GeForce RTX 3060", total_memory=12 << 30, major=8, minor=6)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_properties=lambda index: about,
        mem_get_info=lambda index: (3 << 30, 12 << 30),
    )
    version = SimpleNamespace(cuda="12.1", hip=None)
    fake = SimpleNamespace(cuda=cuda, version=version, backends=SimpleNamespace(), __version__="2.1.2+cu121")
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(machine, "_said", lambda *_: "NVIDIA GeForce RTX 3060, 551.23, 12288 MiB\n")
    machine._driver.cache_clear()
    assert list(machine.card_lines()) == [
        "NVIDIA GeForce RTX 3060, 12.0 GB, 3.0 GB free, compute capability 8.6",
        "NVIDIA's driver 551.23: NVIDIA GeForce RTX 3060, 12288 MiB",
        "torch 2.1.2+cu121, built for CUDA 12.1",
    ]
    machine._driver.cache_clear()

    def broken() -> bool:
        raise RuntimeError("driver too old in /home/jane")

    cuda.is_available = broken
    monkeypatch.setattr(machine, "_said", lambda *_: "")
    assert list(machine.card_lines())[0] == "not known (RuntimeError)"
    cuda.is_available, version.cuda = (lambda: False), None
    last = "torch 2.1.2+cu121, built for neither CUDA nor ROCm"
    assert list(machine.card_lines()) == ["none that torch can use", last]
    machine._driver.cache_clear()


COMMON = ("modules/sd_models.py", "modules/call_queue.py")


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("modules_forge/a.py", "backend/a.py", "modules/lowvram.py", *COMMON), "Forge"),
        (("modules_forge/a.py", "ldm_patched/a.py", *COMMON, "modules/hypernetworks/a.py"), "reForge"),
        (("modules_forge/a.py", "ldm_patched/a.py", "modules/lowvram.py", *COMMON), "Forge Classic"),
        (("modules/lowvram.py", *COMMON), "AUTOMATIC1111"),
        (("modules/sd_offload.py", "modules/modeldata.py", *COMMON), "SD.Next"),
        (("modules/other.py",), "one not known"),
    ],
)
def test_the_webui_around_the_checkout(tmp_path: Path, files: tuple[str, ...], name: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    folder = machine.webui_folder(tmp_path / "extensions" / "atelier")
    assert folder == tmp_path and machine.webui_line(folder) == name
    assert machine.webui_folder(tmp_path / "elsewhere" / "atelier") is None


def test_flags_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMANDLINE_ARGS", '--use-cpu all --listen --data-dir "/home/jane d/x" --api-auth 1:2')
    given = machine.launch_arguments(["--listen", "--xformers"])
    assert machine.flags_line(given) == "--listen --xformers --use-cpu all --data-dir … --api-auth …"
    monkeypatch.setenv("COMMANDLINE_ARGS", "--a 'unclosed jane")
    assert machine.flags_line(machine.launch_arguments()) == "--a …"


def test_it_needs_no_package(tmp_path: Path, root: Path) -> None:
    """The command runs with a bare Python, as where nothing could be installed."""
    record = Record.create(tmp_path / "runs" / "00001-x", {}, {"name": "whiskers"})
    record.status("failed", "It failed for whiskers.")
    script = "import sys; sys.path.insert(0, sys.argv[1]); from atelier.cli import main; sys.exit(main(sys.argv[2:]))"
    out = tmp_path / "report.txt"
    arguments = [str(root / "lib"), "report", "--data-dir", str(tmp_path), "--out", str(out)]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "read it before you post it" in done.stdout
    text = out.read_text(encoding="utf-8")
    assert "torch is not installed" in text and "It failed for <name>." in text
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, *arguments[:-1], str(tmp_path / "no" / "folder")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "cannot be written" in done.stderr
