"""Every file and folder that a job names is there and of its kind, before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.errors import AtelierError, SettingsError
from atelier.config.given_paths import check_paths, why_no_run
from atelier.config.job import JobConfig
from atelier.config.sample_prompts import prompts_file
from atelier.config.settings.named import named_paths
from atelier.config.settings.schema import Settings


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "a.safetensors").write_bytes(b"x")
    (tmp_path / "prompts.txt").write_text("a cat")
    return tmp_path


def job(there: Path, subset: dict[str, Any] | None = None, **keys: Any) -> JobConfig:
    settings = Settings(output_name="x", train_data_dir=str(there / "pictures"), **keys)
    subsets = [Subset(**{"image_dir": str(there / "pictures"), **(subset or {})})]
    return JobConfig(settings, DatasetConfig([Dataset(subsets=subsets)]))


def problems(job: JobConfig, command_line: bool = True) -> list[str]:
    try:
        check_paths(job, command_line)
    except SettingsError as error:
        return [f"{problem.key}: {problem.allowed}" for problem in error.problems]
    return []


FILES: dict[str, Callable[[str], dict[str, Any]]] = {
    "network_weights": lambda path: {"network_weights": path},
    "base_weights": lambda path: {"base_weights": [path]},
    "network_args": lambda path: {"network_args": [f"preset={path}"]},
    "metadata_file": lambda path: {"subset": {"metadata_file": path}},
}


@pytest.mark.parametrize("key", FILES)
def test_a_file_that_is_missing_or_a_folder(there: Path, key: str) -> None:
    folder = there / "folder.toml"
    folder.mkdir()
    missing = str(there / "none.toml")
    assert problems(job(there, **FILES[key](missing)), False) == [f"{key}: there is no such file"]
    assert problems(job(there, **FILES[key](str(folder))), False) == [f"{key}: it is a folder; give a file"]
    assert problems(job(there, **FILES[key](str(there / "a.safetensors")))) == []


@pytest.mark.parametrize("key", ["image_dir", "conditioning_data_dir"])
def test_a_folder_that_is_missing_or_a_file(there: Path, key: str) -> None:
    assert problems(job(there, {key: str(there / "none")})) == [f"{key}: there is no such folder"]
    file = str(there / "a.safetensors")
    assert problems(job(there, {key: file})) == [f"{key}: it is a file; give the folder that it is in"]


def test_folders_of_class_pictures_may_be_still_to_be_drawn(there: Path) -> None:
    subset = {"image_dir": str(there / "none"), "is_reg": True, "class_tokens": "dog"}
    assert problems(job(there, subset)) == ["image_dir: there is no such folder"]
    assert problems(job(there, subset, num_class_images=3)) == []


@pytest.mark.parametrize("key", ["output_dir", "logging_dir"])
def test_folders_that_are_made_may_be_missing_but_no_files(there: Path, key: str) -> None:
    for path, told in ((there / "a.safetensors", [f"{key}: it is a file; give a folder"]), (there / "new", [])):
        asked = job(there, **({key: str(path)} if key == "output_dir" else {}))
        asked.extra = {} if key == "output_dir" else {key: str(path)}
        assert problems(asked) == told


def test_what_only_the_command_line_reads(there: Path) -> None:
    asked = job(there, resume=str(there / "none"))
    assert problems(asked, command_line=False) == []
    assert [line.partition(":")[0] for line in problems(asked)] == ["resume"]


def test_a_vae_may_be_a_file_or_a_folder(there: Path) -> None:
    assert problems(job(there, vae=str(there / "none")), False) == [
        "vae: there is no such file or folder; give one on this machine"
    ]
    assert problems(job(there, vae=str(there))) == problems(job(there, vae=str(there / "a.safetensors"))) == []


def test_all_of_them_are_told_at_once_and_each_only_once(there: Path) -> None:
    asked = job(there, {"image_dir": str(there / "none")}, network_weights="none.safetensors")
    asked.datasets.datasets[0].subsets *= 2
    assert [line.partition(":")[0] for line in problems(asked)] == ["network_weights", "image_dir"]


# -- resume ----------------------------------------------------------------------------------------------------------


def test_a_run_of_ours_can_be_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "state").mkdir(parents=True)
    assert "there is no run of Atelier in it" in (why_no_run(str(run)) or "")
    (run / "state" / "000000004.safetensors").touch()
    assert why_no_run(str(run)) is None
    killed_early = tmp_path / "early"
    (killed_early / "samples").mkdir(parents=True)
    assert why_no_run(str(killed_early)) is None


def test_a_part_of_a_run_is_told_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "run" / "state").mkdir(parents=True)
    (tmp_path / "run" / "job.json").write_text("{}")
    state = tmp_path / "run" / "state" / "000000004.safetensors"
    state.touch()
    assert why_no_run(str(state)) == f"it is a file; give the folder of the run, {tmp_path / 'run'}"
    assert why_no_run(str(state.parent)) == f"it is a part of a run; give the folder of the run, {tmp_path / 'run'}"
    assert why_no_run(str(tmp_path)) == f"it is the folder around runs; give one of them, such as {tmp_path / 'run'}"


@pytest.mark.parametrize(
    "files",
    [
        ("train_state.json", "model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl"),
        ("pytorch_model.bin", "optimizer.bin", "random_states_0.pkl"), ("train_state.json",),
    ],
)  # fmt: skip
def test_a_state_of_sd_scripts_is_recognised(tmp_path: Path, files: tuple[str, ...]) -> None:
    state = tmp_path / "last-state"
    state.mkdir()
    for name in files:
        (state / name).touch()
    told = why_no_run(str(state)) or ""
    assert told.startswith("it is a state of sd-scripts, which cannot be read here") and "network_weights" in told


def test_nothing_to_resume(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "there is no such folder" in (why_no_run(str(tmp_path / "none")) or "")
    assert "it is a file" in (why_no_run(str(tmp_path / "file")) or "")
    assert "there is no run of Atelier in it" in (why_no_run(str(tmp_path)) or "")


# -- sample prompts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none.txt", "none.TOML", "sub/none.json", "~/none", "/tmp/none/p", "./p", "..\\p",
                                  "C:\\prompts\\p", "folder.txt", '"none.txt"', "a prompt file.txt"])  # fmt: skip
def test_a_file_of_prompts_that_is_missing_is_no_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "folder.txt").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AtelierError, match=r"no such file of prompts"):
        prompts_file(name)
    assert len(problems(JobConfig(Settings(sample_prompts=name), DatasetConfig()))) == 1


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_of_another_kind_is_no_file_of_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """The answer does not tell whether it is there: the page may be open to the network."""
    if exists:
        (tmp_path / "prompts.yaml").write_text("a: 1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AtelierError, match="no such file of prompts"):
        prompts_file("prompts.yaml")


@pytest.mark.parametrize("text", ['"/secret/p.txt"', "'/secret/p.txt'", " /secret/p.TXT ", "/secret/p", "p.json"])
def test_a_file_of_prompts_is_guarded_however_it_is_written(text: str) -> None:
    (found,) = named_paths(Settings(sample_prompts=text))
    assert found[0] == "sample_prompts" and found[1] == text.strip(" \"'")


@pytest.mark.parametrize("text", ["", None, "a cat", "a cat, v1.5 --w 512", "a photo of sks/cat", "cat\nnone.txt",
                                  "1girl, smile.", "50mm f/1.8", "(cat:1.2)"])  # fmt: skip
def test_prompts_are_prompts(text: str | None) -> None:
    assert prompts_file(text) is None


def test_a_file_of_prompts_is_found(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there)
    assert prompts_file(" prompts.txt ") == Path("prompts.txt") == prompts_file('"prompts.txt"')
