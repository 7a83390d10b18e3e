"""Whole runs on a tiny model: what they learn, write, draw and tell."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from atelier.adapters.files.kohya_file import read_lora
from atelier.hosts.contract import SampleRequest
from atelier.jobs.control import Control
from atelier.training.optim.optimizers import SOURCES
from atelier.training.progress.state import read_newest
from tests.support.training_fakes import Run, TinyHost, assert_same, run, tiny_job, write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def one(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of four steps, two an epoch."""
    return run(tiny_job(pictures), tmp_path_factory.mktemp("one"))


def moved(done: Run) -> float:
    return max(float(tensor.abs().max()) for name, tensor in done.tensors.items() if "lora_up" in name)


# -- what is learnt ----------------------------------------------------------------------------------------------------


def test_the_loss_falls(pictures: Path, tmp_path: Path) -> None:
    """Few timesteps and one picture, so that the loss of two steps can be compared at all."""
    done = run(
        tiny_job(
            write_pictures(tmp_path / "one", 1), max_train_steps=40, train_batch_size=1, dataset_repeats=8,
            min_timestep=500, max_timestep=520, conv_dim=4, network_dim=8, save_precision="float",
        ),
        tmp_path,
    )  # fmt: skip
    values = done.record.values
    assert sum(values[-10:]) < 0.85 * sum(values[:10])


def test_the_same_seed_gives_the_same_file(pictures: Path, one: Run, tmp_path: Path) -> None:
    assert_same(run(tiny_job(pictures), tmp_path).tensors, one.tensors)
    other = run(tiny_job(pictures, seed=8), tmp_path / "other")
    assert all(not torch.equal(other.tensors[name], one.tensors[name]) for name in one.tensors if "lora_" in name[-20:])


def test_predicting_its_memory_changes_nothing(pictures: Path, one: Run, tmp_path: Path) -> None:
    done = run(tiny_job(pictures), tmp_path, predicts=True)
    assert done.record.told("This needs about")
    assert_same(done.tensors, one.tensors)


def test_the_host_draws_with_what_was_learnt(one: Run) -> None:
    """The file is hot: the host's own list has it, and a prompt that names it gives another picture."""
    plain = one.host.sample(SampleRequest("zwx", width=64, height=64, steps=2, seed=1, sampler="DDIM"))
    worn = one.host.sample(SampleRequest("zwx <lora:tiny:1>", width=64, height=64, steps=2, seed=1, sampler="DDIM"))
    assert plain is not None and worn is not None and plain.tobytes() != worn.tobytes()
    assert [entry.name for entry in one.host.loras()] == ["tiny"]


def test_accumulation_equals_the_larger_batch(pictures: Path, tmp_path: Path) -> None:
    """Four pictures at once, or one by one: an epoch is a step, so both see the same pictures.

    Noise is drawn for each batch, so the test gives both the same: none but the text encoder's and UNet's own answer.
    """
    seen: dict[str, list[float]] = {}
    weights = {}
    for name, changes in {
        "at once": {"train_batch_size": 4},
        "one by one": {"train_batch_size": 1, "gradient_accumulation_steps": 4},
    }.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("atelier.training.batch_losses.sample_noise", _draw_by_picture)
            job = tiny_job(pictures, max_train_steps=2, optimizer_type="SGD", learning_rate=1.0, **changes)
            done = run(job, tmp_path / name)
        seen[name], weights[name] = done.record.values, done.tensors
    assert seen["at once"] == pytest.approx(seen["one by one"], rel=1e-5)
    for name, tensor in weights["at once"].items():
        torch.testing.assert_close(tensor, weights["one by one"][name], rtol=1e-4, atol=1e-7)


def _draw_by_picture(shape: torch.Size, latents: torch.Tensor, *_: Any) -> Any:
    """Noise and timesteps that follow from a picture's latents, whatever batch it is in."""
    from atelier.training.objective.objective import NoiseSample

    noise = torch.stack([row.roll(1, 0).flip(1) for row in latents])
    times = (latents.abs().sum(dim=(1, 2, 3)) * 1000).long() % 1000
    return NoiseSample(noise, noise, times)


def test_gradient_checkpointing_equals_without(pictures: Path, tmp_path: Path) -> None:
    changes = {"network_dropout": 0.3, "network_args": ["rank_dropout=0.2"], "max_train_steps": 3}
    plain = run(tiny_job(pictures, **changes), tmp_path / "a")
    less = run(tiny_job(pictures, gradient_checkpointing=True, **changes), tmp_path / "b")
    assert plain.record.values == less.record.values
    assert_same(plain.tensors, less.tensors)


def test_parts_alone(pictures: Path, one: Run, tmp_path: Path) -> None:
    unet = run(tiny_job(pictures, network_train_unet_only=True), tmp_path / "unet")
    text = run(tiny_job(pictures, network_train_text_encoder_only=True), tmp_path / "text")
    no_rate = run(tiny_job(pictures, text_encoder_lr=[0.0]), tmp_path / "no rate")
    assert set(unet.tensors) | set(text.tensors) == set(one.tensors)
    assert all(name.startswith("lora_unet_") for name in unet.tensors)
    assert all(name.startswith("lora_te_") for name in text.tensors)
    assert_same(no_rate.tensors, unet.tensors)
    assert moved(unet) > 0 and moved(text) > 0


def test_bf16_follows_full_precision(pictures: Path, one: Run, tmp_path: Path) -> None:
    half = run(tiny_job(pictures, mixed_precision="bf16"), tmp_path)
    assert half.metadata["ss_mixed_precision"] == "bf16" and one.metadata["ss_mixed_precision"] == "no"
    assert half.record.values == pytest.approx(one.record.values, rel=0.03)
    assert half.record.values != one.record.values


def installed(name: str) -> bool:
    modules = [module.split(".")[0] for module, _ in SOURCES[name].candidates]
    return any(importlib.util.find_spec(module) is not None for module in modules)


@pytest.mark.parametrize("name", SOURCES)
def test_every_optimiser(name: str, pictures: Path, tmp_path: Path) -> None:
    """Learns, with states that resume; one whose package is missing says which to install."""
    changes: dict[str, Any] = {"optimizer_type": name, "network_train_unet_only": True, "max_train_steps": 3}
    if name.startswith(("dadapt", "prodigy")):
        changes["learning_rate"] = 1.0
    if name == "radamschedulefree":
        changes["max_train_steps"] = 8  # its first five steps are of length 0
    if name == "adafactor":
        changes["lr_scheduler"] = "adafactor"
    if not installed(name):
        with pytest.raises(Exception, match=f"pip install {SOURCES[name].package}"):
            run(tiny_job(pictures, **changes), tmp_path)
        return
    done = run(tiny_job(pictures, **changes), tmp_path)
    assert done.outcome.state == "done" and moved(done) > 0
    assert all(math.isfinite(value) for value in done.record.values)
    state = read_newest(done.record.folder / "state")
    assert state is not None and state.step == changes["max_train_steps"]
    assert any(key.startswith("optimizer") for key in state.tensors)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_names_kinds_and_what_lies_beside(pictures: Path, tmp_path: Path) -> None:
    """Four pictures, two a batch: an epoch is two steps."""
    job = tiny_job(
        pictures, max_train_steps=6, save_every_n_steps=3, save_every_n_epochs=1, output_name="Meine Katze (ß)",
        trigger="zwx", sample_every_n_steps=2, sample_prompts="a cat --s 1 --w 64 --h 64",
    )  # fmt: skip
    done = run(job, tmp_path)
    saved = [(path.stem, step, epoch, kind) for path, step, epoch, kind in done.record.saves]
    name = "Meine Katze (ß)"
    assert saved == [
        (f"{name}-000001", 2, 1, "epoch"), (f"{name}-step00000003", 3, 1, "step"), (f"{name}-000002", 4, 2, "epoch"),
        (name, 6, 3, "final"),
    ]  # fmt: skip
    assert [path.stem for path in done.host.published] == [stem for stem, *_ in saved]
    for path, step, epoch, _ in done.record.saves:
        metadata = read_lora(path).metadata
        assert (metadata["ss_steps"], metadata["ss_epoch"]) == (str(step), str(epoch))
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert about["activation text"] == "zwx" and about["sd version"] == "SD1"
        with Image.open(path.with_suffix(".png")) as preview:
            assert preview.size == (64, 64)


def test_metadata_tells_what_was_done(one: Run) -> None:
    metadata = one.metadata
    expected = {
        "ss_output_name": "tiny", "ss_network_dim": "2", "ss_network_alpha": "2.0", "ss_max_train_steps": "4",
        "ss_num_train_images": "4", "ss_num_batches_per_epoch": "2", "ss_num_epochs": "2", "ss_seed": "7",
        "ss_learning_rate": "0.01", "ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora",
        "modelspec.architecture": "stable-diffusion-v1/lora", "modelspec.trigger_phrase": "zwx",
    }  # fmt: skip
    assert {key: metadata[key] for key in expected} == expected
    assert len(metadata["sshs_model_hash"]) == 64
    assert next(iter(json.loads(metadata["ss_tag_frequency"]).values()))["noise"] == 4


def test_only_the_last_ones_stay(pictures: Path, tmp_path: Path) -> None:
    job = tiny_job(
        pictures, max_train_steps=8, save_every_n_steps=1, save_last_n_steps=2, save_every_n_epochs=1,
        save_last_n_epochs=1,
    )  # fmt: skip
    done = run(job, tmp_path)
    stems = sorted({Path(name).stem for name in done.files})
    assert stems == ["tiny", "tiny-000003", "tiny-step00000006", "tiny-step00000007"]


def test_another_runs_file_is_never_overwritten(pictures: Path, one: Run, tmp_path: Path) -> None:
    host = TinyHost(tmp_path)
    theirs = host.folders.lora / "tiny.safetensors"
    theirs.write_bytes(b"somebody's")
    done = run(tiny_job(pictures), tmp_path, host=host)
    assert theirs.read_bytes() == b"somebody's"
    assert done.outcome.path is not None and done.outcome.path.name == "tiny-2.safetensors"
    assert done.record.told("tiny-2") and host.published == [done.outcome.path]
    assert_same(done.tensors, one.tensors)


def test_save_and_sample_when_asked(pictures: Path, tmp_path: Path) -> None:
    def at(step: int, control: Control) -> None:
        if step == 2:
            control.save_now()
            control.sample_now()

    done = run(tiny_job(pictures, sample_prompts="a cat --s 1 --w 64 --h 64"), tmp_path, at)
    assert [(path.stem, kind) for path, _, _, kind in done.record.saves] == [
        ("tiny-step00000002", "asked"), ("tiny", "final"),
    ]  # fmt: skip
    assert [(step, index) for step, index, *_ in done.record.pictures] == [(2, 0)]


# -- what is drawn and told --------------------------------------------------------------------------------------------


def test_previews_at_the_start_and_every_few_steps(pictures: Path, one: Run, tmp_path: Path) -> None:
    """Drawing changes nothing of what is learnt; with the same seed the first picture is the untrained model's."""
    prompts = "a cat --s 2 --w 64 --h 64 --d 5\n# a comment\na dog --n red --s 1 --w 96 --h 64 --l 1"
    job = tiny_job(pictures, sample_prompts=prompts, sample_every_n_steps=2, sample_at_first=True)
    done = run(job, tmp_path)
    drawn = [("a cat", (64, 64)), ("a dog", (96, 64))]
    assert [(step, index, prompt, picture.size) for step, index, prompt, picture in done.record.pictures] == [
        (step, index, *what) for step in (0, 2, 4) for index, what in enumerate(drawn)
    ]
    bits = [picture.tobytes() for _, index, _, picture in done.record.pictures if index == 0]
    assert len(set(bits)) == 3
    assert_same(done.tensors, one.tensors)


def test_previews_every_epoch_from_the_trigger(pictures: Path, tmp_path: Path) -> None:
    done = run(tiny_job(pictures, sample_every_n_epochs=1), tmp_path)
    drawn = [(step, prompt) for step, _, prompt, _ in done.record.pictures]
    assert drawn == [(2, "a photo of zwx"), (4, "a photo of zwx")]


def test_a_preview_that_cannot_be_drawn_is_told(
    pictures: Path, one: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for this size")

    monkeypatch.setattr("atelier.training.pictures.previews.sample", fails)
    job = tiny_job(pictures, sample_prompts="a cat --w 64 --h 64", sample_every_n_steps=2)
    done = run(job, tmp_path)
    assert done.record.pictures == [] and done.record.told("could not be drawn")
    assert_same(done.tensors, one.tensors)


def test_what_the_record_is_told(one: Run) -> None:
    record = one.record
    assert [state for state, _ in record.statuses] == ["preparing", "running", "done"]
    assert [step for step, _, _ in record.rows] == [1, 2, 3, 4]
    assert all(set(rates) == {"text_encoder", "unet"} for _, _, rates in record.rows)
    last = record.speeds[-1]
    assert (last["step"], last["total"], last["epoch"], last["epochs"], last["eta"]) == (4, 4, 2, 2, 0)
    assert last["memory"] > 0 and last["seconds_per_step"] > 0


def test_what_the_record_is_told_of_every_step(one: Run) -> None:
    """Two steps an epoch, read one by one."""
    found = [(told["step"], told["total"], told["epoch"], told["epochs"]) for told in one.record.speeds]
    assert found == [(1, 4, 1, 2), (2, 4, 1, 2), (3, 4, 2, 2), (4, 4, 2, 2)]
    for told in one.record.speeds:
        assert told["seconds_per_step"] > 0 and told["memory"] > 2**20
        assert told["eta"] == pytest.approx((4 - told["step"]) * told["seconds_per_step"])
    assert all(math.isfinite(loss) and loss > 0 for loss in one.record.values)
    assert all(rate == 1e-2 for _, _, rates in one.record.rows for rate in rates.values())


def test_the_schedule_reaches_the_optimiser(pictures: Path, tmp_path: Path) -> None:
    """The rate noted after a step is the next one's: cosine over four steps ends at nothing."""
    done = run(tiny_job(pictures, lr_scheduler="cosine", text_encoder_lr=[5e-3]), tmp_path)
    shape = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in (1, 2, 3, 4)]
    assert [rates["unet"] for *_, rates in done.record.rows] == pytest.approx([1e-2 * value for value in shape])
    assert [rates["text_encoder"] for *_, rates in done.record.rows] == pytest.approx([5e-3 * value for value in shape])


def test_pictures_that_are_left_out_are_told(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 3)
    (pictures / "broken.png").write_bytes(b"no picture")
    done = run(tiny_job(pictures), tmp_path)
    assert done.record.told("broken.png") and done.metadata["ss_num_train_images"] == "3"


def test_a_kind_that_the_webui_cannot_use_is_told(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lycoris")
    monkeypatch.setattr(TinyHost, "name", "forge")
    lycoris = {"network_module": "lycoris.kohya", "network_args": ["algo=ia3", "preset=ia3"]}
    done = run(tiny_job(pictures, max_train_steps=1, **lycoris), tmp_path)
    assert any(level == "warning" and "(Forge) does not load (IA)³" in text for level, text in done.record.messages)
    plain = run(tiny_job(pictures, max_train_steps=1), tmp_path / "plain")
    assert not plain.record.told("does not load")


def test_a_data_sets_strength_acts_as_alpha_does(pictures: Path, tmp_path: Path) -> None:
    """An adapter at half its strength learns as one with half the alpha; afterwards it counts in full."""
    job = tiny_job(pictures)
    job.datasets.datasets[0].network_multiplier = 0.5
    weaker = run(job, tmp_path / "weaker")
    halved = run(tiny_job(pictures, network_alpha=1.0), tmp_path / "halved")
    assert [row[1] for row in weaker.record.rows] == pytest.approx([row[1] for row in halved.record.rows], abs=1e-6)
    for name, tensor in weaker.tensors.items():
        if not name.endswith(".alpha"):
            assert torch.allclose(tensor, halved.tensors[name], atol=1e-5)
    full = run(tiny_job(pictures), tmp_path / "full")
    assert any(not torch.equal(tensor, weaker.tensors[name]) for name, tensor in full.tensors.items())


def test_what_is_set_in_vain_or_beyond_its_bounds_is_told(pictures: Path, tmp_path: Path) -> None:
    asked = {"adaptive_noise_scale": 0.1, "sample_prompts": "a cat --w 99999", "max_train_steps": 1}
    done = run(tiny_job(pictures, **asked), tmp_path)
    assert done.record.told("(adaptive_noise_scale) does nothing without Noise offset (noise_offset).")
    assert done.record.told("'a cat' asks for width 99999; it is drawn with 4096, since 64 to 4096 pixels")
