"""Dreambooth: the model itself is trained on a copy, saved whole, and the host's own stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.jobs.control import Control
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.family import Parts
from atelier.training.outputs import saving
from atelier.training.progress.state import read_newest
from atelier.training.trained.unet_blocks import block_of, block_rates, place_in_block_lr
from atelier.training.trained.whole_model import WholeModel
from tests.support.models_tiny import tiny_parts as small_parts
from tests.support.training_fakes import MemoryRecord, TinyHost, run, tiny_job, tiny_parts, write_pictures

pytestmark = pytest.mark.slow

WHOLE = {"train_whole_model": True, "learning_rate": 1e-3, "save_model_as": "safetensors"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def weights(parts: Parts, part: str) -> dict[str, torch.Tensor]:
    module = {"unet": parts.denoiser, "text": parts.text_encoders[0], "vae": parts.vae}[part]
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


def test_frozen_blocks_stay_and_are_not_kept(tmp_path: Path, pictures: Path) -> None:
    found = run(tiny_job(pictures, freeze_blocks=["down", "mid", "OUT04"], **WHOLE), tmp_path / "run")
    assert found.outcome.path is not None
    before, after = weights(found.host.parts, "unet"), weights(load_checkpoint(found.outcome.path).parts, "unet")
    moved = {block_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert moved == {block_of(name) for name in before if not block_of(name).startswith(("IN", "MID", "OUT04"))}
    assert {"TIME", "END", "OUT00"} <= moved
    state = read_newest(found.record.folder / "state")
    assert state is None or not any("down_blocks" in name for name in state.tensors)
    with pytest.raises(AtelierError, match="no 'OUT11'.*OUT00"):
        run(tiny_job(pictures, freeze_blocks=["OUT11"], **WHOLE), tmp_path / "other")


def test_blocks_are_counted_as_in_sdxl_files() -> None:
    names = {
        "conv_in.weight": ("IN00", 1), "down_blocks.0.resnets.1.conv1.weight": ("IN02", 3),
        "down_blocks.0.downsamplers.0.conv.weight": ("IN03", 4), "down_blocks.2.attentions.1.norm.weight": ("IN08", 9),
        "mid_block.resnets.0.conv1.weight": ("MID", 10), "mid_block.attentions.0.norm.weight": ("MID", 11),
        "mid_block.resnets.1.conv1.weight": ("MID", 12), "up_blocks.0.resnets.0.conv1.weight": ("OUT00", 13),
        "up_blocks.0.upsamplers.0.conv.weight": ("OUT02", 15), "up_blocks.2.resnets.2.conv1.weight": ("OUT08", 21),
        "conv_out.bias": ("END", 22), "add_embedding.linear_1.weight": ("TIME", 0),
    }  # fmt: skip
    assert {name: (block_of(name), place_in_block_lr(name)) for name in names} == names


def test_rates_of_single_blocks(pictures: Path, tmp_path: Path) -> None:
    assert block_rates("1e-5", "sdxl") == [1e-5] * 23
    for text, words in (
        ("1,2", "23 numbers, none below 0"),
        ("fast", "must be 23 numbers, sep"),
        ("-1", "none below 0"),
    ):
        with pytest.raises(AtelierError, match=words):
            block_rates(text, "sdxl")
    with pytest.raises(AtelierError, match=r"Block learning rates \(block_lr\) is for SDXL"):
        run(tiny_job(pictures, block_lr="1e-5", **WHOLE), tmp_path / "run")
    parts = small_parts("sdxl")
    rates = ",".join(["0"] * 13 + ["1e-5"] * 9 + ["2e-5"])
    model = WholeModel(parts, False, block_lr=rates)
    groups = model.parameter_groups(1e-6, [0.0])
    assert (groups[-1]["name"], groups[-1]["lr"], groups[0]["name"]) == ("unet_block_22", 2e-5, "unet_block_13")
    learning = {block_of(name) for name, each in parts.denoiser.named_parameters() if each.requires_grad}
    assert learning and all(block.startswith("OUT") or block == "END" for block in learning)


def test_it_goes_on_from_a_saved_checkpoint(tmp_path: Path, pictures: Path) -> None:
    """A run that counts two steps as done takes the last two of four, and with the pictures of those two skipped."""
    found = run(tiny_job(pictures, initial_step=2, save_every_n_steps=3, **WHOLE), tmp_path / "run")
    assert [row[0] for row in found.record.rows] == [3, 4] and found.outcome.steps == 4
    assert sorted(path.stem for path in found.host.folders.checkpoints.iterdir()) == ["tiny", "tiny-step00000003"]
    by_epoch = run(tiny_job(pictures, initial_epoch=2, **WHOLE), tmp_path / "epoch")
    assert by_epoch.record.rows == found.record.rows
    skipped = run(tiny_job(pictures, initial_step=2, skip_until_initial_step=True, **WHOLE), tmp_path / "skipped")
    assert [row[0] for row in skipped.record.rows] == [3, 4] and skipped.record.values != found.record.values
    with pytest.raises(AtelierError, match="would start at step 4"):
        run(tiny_job(pictures, initial_step=4, **WHOLE), tmp_path / "late")


def test_killed_between_the_checkpoint_and_its_note(tmp_path: Path, pictures: Path) -> None:
    """It is this run's own, not another's of that name; one that another run wrote stays as it is."""
    first = run(tiny_job(pictures, **WHOLE), tmp_path / "run")
    assert first.outcome.path is not None
    record = MemoryRecord(first.record.folder)
    again = run(tiny_job(pictures, **WHOLE), tmp_path / "run", record=record)
    assert again.files == [] and again.outcome.path == first.outcome.path
    written = first.outcome.path.read_bytes()
    other = run(tiny_job(pictures, **{**WHOLE, "seed": 9}), tmp_path / "run", record=MemoryRecord(tmp_path / "other"))
    assert other.outcome.path is not None and other.outcome.path.name == "tiny-2.safetensors"
    assert other.record.told("tiny.safetensors belongs to another run") and first.outcome.path.read_bytes() == written


@pytest.mark.parametrize(("form", "ending"), [("ckpt", ".ckpt"), ("diffusers", "")])
def test_old_checkpoints_of_every_kind_go(form: str, ending: str, tmp_path: Path, pictures: Path) -> None:
    asked = {**WHOLE, "save_model_as": form, "save_every_n_epochs": 1, "save_last_n_epochs": 1, "max_train_steps": 6}
    found = run(tiny_job(pictures, **asked), tmp_path / "run")
    names = sorted(path.name for path in found.host.folders.checkpoints.iterdir())
    assert names == sorted([f"tiny{ending}", f"tiny-000002{ending}"])


def test_a_disk_too_small_is_said_before_the_first_step(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four checkpoints are there at once: the last three by steps, and a new one before the oldest goes."""
    size = 4 * sum(p.numel() for part in ("unet", "text", "vae") for p in weights(tiny_parts(), part).values())
    asked = {"save_every_n_steps": 1, "save_last_n_steps": 1, "max_train_steps": 9, **WHOLE}
    free = {"bytes": saving.MARGIN + 3 * size}
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda path: SimpleNamespace(free=free["bytes"]))
    host = TinyHost(tmp_path / "run")
    with pytest.raises(AtelierError, match="the 4 checkpoints and the states"):
        run(tiny_job(pictures, **asked), tmp_path / "run", host=host)
    assert not list(host.folders.checkpoints.iterdir())
    free["bytes"] = saving.MARGIN + 7 * size
    assert run(tiny_job(pictures, **asked), tmp_path / "again", host=host).outcome.state == "done"


def test_each_concept_has_its_weight(tmp_path: Path, pictures: Path) -> None:
    found = {}
    for weight in (1.0, 0.0):
        job = tiny_job(pictures, **WHOLE)
        job.datasets.datasets[0].subsets.append(
            replace(job.datasets.datasets[0].subsets[0], image_dir=str(write_pictures(tmp_path / "other", first=20)),
                    loss_weight=weight)
        )  # fmt: skip
        found[weight] = run(job, tmp_path / f"w{weight}").record.values
    assert found[1.0] != found[0.0] and min(found[0.0]) < min(found[1.0])
