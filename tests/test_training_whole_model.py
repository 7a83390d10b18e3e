"""Dreambooth: the model itself is trained on a copy, saved whole, and the host's own stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_fakes import TinyHost, run, tiny_job, write_pictures

from atelier.config.errors import AtelierError
from atelier.jobs.control import Control
from atelier.models.checkpoint import load_checkpoint
from atelier.models.family import Parts

WHOLE = {"train_whole_model": True, "learning_rate": 1e-3, "save_model_as": "safetensors"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def weights(parts: Parts, part: str) -> dict[str, torch.Tensor]:
    module = {"unet": parts.unet, "text": parts.text_encoders[0], "vae": parts.vae}[part]
    assert module is not None
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def changed(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> int:
    return sum(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_complete_checkpoint_comes_of_it(tmp_path: Path, pictures: Path) -> None:
    found = run(tiny_job(pictures, train_text_encoder=True, **WHOLE), tmp_path / "run")
    path = found.outcome.path
    assert path is not None and path.parent == found.host.folders.checkpoints and path.name == "tiny.safetensors"
    loaded = load_checkpoint(path)
    assert loaded.info.family == "sd1"
    for part, all_changed in (("unet", True), ("text", True), ("vae", False)):
        before, after = weights(found.host.parts, part), weights(loaded.parts, part)
        assert before.keys() == after.keys()
        assert changed(before, after) > 0.5 * len(before) if all_changed else changed(before, after) == 0


def test_without_train_text_encoder_it_stays(tmp_path: Path, pictures: Path) -> None:
    found = run(tiny_job(pictures, **WHOLE), tmp_path / "run")
    assert found.outcome.path is not None
    loaded = load_checkpoint(found.outcome.path)
    assert changed(weights(found.host.parts, "text"), weights(loaded.parts, "text")) == 0
    assert changed(weights(found.host.parts, "unet"), weights(loaded.parts, "unet")) > 0


def test_the_text_encoder_can_stop_early(tmp_path: Path, pictures: Path) -> None:
    settings = {**WHOLE, "train_text_encoder": True, "max_train_steps": 2}
    first = run(tiny_job(pictures, **settings), tmp_path / "a")
    settings = {**settings, "max_train_steps": 4, "stop_text_encoder_training": 2}
    longer = run(tiny_job(pictures, **settings), tmp_path / "b")
    assert first.outcome.path is not None and longer.outcome.path is not None
    short, stopped = load_checkpoint(first.outcome.path).parts, load_checkpoint(longer.outcome.path).parts
    assert changed(weights(short, "text"), weights(stopped, "text")) == 0
    assert changed(weights(short, "unet"), weights(stopped, "unet")) > 0


def test_it_resumes_to_the_same_bits(tmp_path: Path, pictures: Path) -> None:
    straight = run(tiny_job(pictures, **WHOLE), tmp_path / "straight")

    def stop(step: int, control: Control) -> None:
        if step == 2:
            control.stop()

    host = TinyHost(tmp_path / "halves")
    job = tiny_job(pictures, **WHOLE)
    half = run(job, tmp_path / "halves", stop, host)
    assert half.outcome.state == "stopped" and half.outcome.steps == 2
    rest = run(job, tmp_path / "halves", host=host)
    assert straight.outcome.path is not None and rest.outcome.path is not None
    ours, theirs = load_checkpoint(rest.outcome.path).parts, load_checkpoint(straight.outcome.path).parts
    assert changed(weights(ours, "unet"), weights(theirs, "unet")) == 0


def test_class_pictures_weigh_in(tmp_path: Path, pictures: Path) -> None:
    known = write_pictures(tmp_path / "known", first=10)
    weighed = [
        run(tiny_job(pictures, reg_data_dir=str(known), prior_loss_weight=weight, **WHOLE), tmp_path / f"w{weight}")
        for weight in (0.0, 1.0)
    ]
    paths = [found.outcome.path for found in weighed]
    assert paths[0] is not None and paths[1] is not None
    first, second = load_checkpoint(paths[0]).parts, load_checkpoint(paths[1]).parts
    assert changed(weights(first, "unet"), weights(second, "unet")) > 0


def test_saves_are_limited_and_nothing_is_overwritten(tmp_path: Path, pictures: Path) -> None:
    host = TinyHost(tmp_path / "run")
    host.folders.checkpoints.mkdir(parents=True, exist_ok=True)
    (host.folders.checkpoints / "tiny.safetensors").write_bytes(b"somebody's")
    job = tiny_job(pictures, save_every_n_epochs=1, save_last_n_epochs=1, max_train_steps=6, **WHOLE)
    found = run(job, tmp_path / "run", host=host)
    names = sorted(path.name for path in host.folders.checkpoints.iterdir() if path.suffix == ".safetensors")
    assert found.outcome.path is not None and found.outcome.path.name == "tiny-2.safetensors"
    assert (host.folders.checkpoints / "tiny.safetensors").read_bytes() == b"somebody's"
    assert names == ["tiny-000002.safetensors", "tiny-2.safetensors", "tiny.safetensors"]


def test_norms_of_adapters_are_refused(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(AtelierError, match="scale_weight_norms"):
        run(tiny_job(pictures, scale_weight_norms=1.0, **WHOLE), tmp_path / "run")
