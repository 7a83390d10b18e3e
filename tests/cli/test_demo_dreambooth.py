"""`run.py demo --dreambooth`: two runs that differ in class pictures alone, and a table of what they are like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from atelier.cli import main
from atelier.cli.demo import dreambooth
from atelier.config.job import job_from_settings
from atelier.config.settings.checks import validate
from atelier.demo.shapes import all_scenes, is_held_out


def test_the_runs_differ_in_class_pictures_alone() -> None:
    with_them, without = (dreambooth.settings(kind, 10) for kind in ("with", "without"))
    assert validate(with_them) == [] and job_from_settings(without).settings.train_whole_model
    changes = {"class_prompt", "num_class_images", "output_name"}
    differing = {key for key, value in vars(with_them).items() if value != vars(without)[key]}
    assert differing == changes


def test_class_prompts_are_none_of_those_that_are_measured() -> None:
    prompts = dreambooth.known_captions()
    held_out = {scene.caption() for scene in all_scenes() if is_held_out(scene)}
    assert len(prompts) == len(set(prompts)) == dreambooth.KNOWN and not held_out & set(prompts)


@pytest.mark.slow
def test_the_command_measures_both(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step each, few pictures: what matters here is that every figure comes from the model it names."""
    monkeypatch.setattr(dreambooth, "HELD_OUT", 2)
    monkeypatch.setattr(dreambooth, "SEEDS", (1,))
    monkeypatch.setattr(dreambooth, "PROMPTS", ("a zwx badge",))
    monkeypatch.setattr(dreambooth, "known_captions", lambda: ["a red circle", "a blue square"])
    assert main(["demo", "--dreambooth", "--out", str(tmp_path), "--steps", "1"]) == 0
    report = json.loads((tmp_path / "dreambooth.json").read_text(encoding="utf-8"))
    assert list(report["rows"]) == ["before", "without", "with"]
    files = [row["file"] for row in report["rows"].values()]
    assert files == ["base", "zwx_badge_model_without.safetensors", "zwx_badge_model_with.safetensors"]
    assert all((tmp_path / "data" / "models" / name).stat().st_size > 0 for name in files[1:])
    assert len(list((tmp_path / "data" / "cache" / "class_pictures").rglob("*.png"))) == 2
    assert report["table"].count("\n") == 4 and "Dreambooth with" in report["table"]
    with Image.open(tmp_path / "dreambooth.png") as sheet:
        assert sheet.height > sheet.width / 2
