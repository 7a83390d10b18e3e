"""`run.py train`: what is refused before anything is made, and what the terminal shows of a run that fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from atelier.cli import main
from atelier.cli.shared import headless
from atelier.config.errors import AtelierError
from atelier.hosts.embedded import host as embedded


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64), "green").save(pictures / "a.png")
    path = tmp_path / "asked.toml"
    path.write_text(
        f"output_name = 'x'\ntrigger = 'sks'\nresolution = '64'\ntrain_data_dir = '{pictures.as_posix()}'\n"
        "max_train_steps = 2\n",
        encoding="utf-8",
    )
    return path


def refused(asked: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is told of a run that is refused. Nothing may have been made."""
    before = sorted(asked.parent.rglob("*"))
    assert main(["train", str(asked), "--data-dir", str(asked.parent / "data"), "--device", "cpu", *words]) == 1
    assert sorted(asked.parent.rglob("*")) == before
    told = capsys.readouterr()
    assert "Traceback" not in told.err + told.out
    return told.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../evil", "a name cannot contain a folder"), ("a/b", "a name cannot contain a folder"),
        ("a\\b", "a name cannot contain a folder"), ("x" * 245, "at most 100 characters"), ("con", "Windows reserves"),
        ("a:b", "cannot contain"),
    ],
)  # fmt: skip
def test_a_name_that_no_file_can_have(
    asked: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    """The same check as for the tab and the API."""
    assert sentence in refused(asked, capsys, "--output_name", name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resume", "gone"), ("network_weights", "gone.safetensors"), ("base_weights", "gone.safetensors"),
        ("sample_prompts", "gone.txt"), ("dataset_config", "gone.toml"), ("vae", "gone.safetensors"),
        ("in_json", "gone.json"), ("conditioning_data_dir", "gone"), ("reg_data_dir", "gone"), ("ckpt", "gone/base"),
        ("pretrained_model_name_or_path", "gone.safetensors"),
        ("output_dir", "asked.toml"), ("logging_dir", "asked.toml"), ("train_data_dir", "gone"),
        ("network_args", "preset=gone.toml"), ("resume", "asked.toml"), ("resume", "pictures"),
        ("network_weights", "pictures"), ("dataset_config", "pictures"), ("train_data_dir", "asked.toml"),
    ],
)  # fmt: skip
def test_a_path_that_is_missing_or_of_another_kind(
    asked: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.chdir(asked.parent)
    told = refused(asked, capsys, f"--{key}", value)
    assert value.removeprefix("preset=") in told, told


def test_a_state_of_sd_scripts_is_left_as_it_is(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = asked.parent / "x-000001-state"
    state.mkdir()
    for name in ("model.safetensors", "optimizer.bin", "train_state.json"):
        (state / name).write_bytes(b"x")
    assert "it is a state of sd-scripts" in refused(asked, capsys, "--resume", str(state))


class _Host:
    """A host as far as the command asks it before it trains."""

    def __init__(self, root: Path, device: str | None = None) -> None:
        self.folders = SimpleNamespace(runs=root / "runs")

    def load_default(self) -> None:
        """Nothing is trained."""


@pytest.mark.parametrize("error", [AtelierError("There are no pictures in x."), RuntimeError("broken")])
def test_an_error_is_shown_once(
    asked: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def train(job: Any, host: Any, record: Any, control: Any) -> None:
        record.status("preparing", "Looking at the pictures.")
        raise error

    monkeypatch.setattr(embedded, "EmbeddedHost", _Host)
    monkeypatch.setattr(headless, "train", train)
    words = ["train", str(asked), "--data-dir", str(asked.parent / "data"), "--device", "cpu"]
    if isinstance(error, AtelierError):
        assert main(words) == 1
    else:
        with pytest.raises(RuntimeError, match="broken"):
            main(words)
    told = capsys.readouterr()
    assert told.out == "Looking at the pictures.\n"
    assert told.err == (f"{error}\n" if isinstance(error, AtelierError) else "")
    (log,) = (asked.parent / "data" / "runs").glob("*/log.txt")
    assert str(error) in log.read_text(encoding="utf-8")
