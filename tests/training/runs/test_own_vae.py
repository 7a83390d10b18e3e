"""The setting vae: pictures are encoded and samples drawn with it, in every kind of base and of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier.config.errors import AtelierError
from atelier.models.checkpoints.load import load_checkpoint
from tests.support.models_tiny import tiny_parts as parts_of
from tests.support.training_fakes import MemoryRecord, TinyHost, assert_same, run, tiny_job, tiny_parts, write_pictures

DRAWN = {"sample_at_first": True, "sample_prompts": "a cat --s 1 --w 64 --h 64", "max_train_steps": 2}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", 2)


def own_vae(folder: Path, parts: Any, factor: float = 1.2) -> str:
    """A folder with the VAE of `parts`, its weights times `factor`."""
    folder.mkdir()
    weights = {name: tensor * factor for name, tensor in parts.vae.state_dict().items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(parts.vae.config)), encoding="utf-8")
    return str(folder)


def test_pictures_and_samples_are_made_with_it(pictures: Path, tmp_path: Path) -> None:
    """As if it were the base's own; and the base's own stays as it is, in the host and in the cache on disk."""
    vae = own_vae(tmp_path / "vae", tiny_parts())
    exchanged = tiny_parts()
    exchanged.vae.load_state_dict(load_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors"))  # type: ignore[union-attr]
    kept = {**DRAWN, "cache_latents_to_disk": True}
    host = TinyHost(tmp_path / "a")
    without = run(tiny_job(pictures, **kept), tmp_path / "a", host=host, record=MemoryRecord(tmp_path / "r1"))
    having = run(
        tiny_job(pictures, **kept, vae=vae, output_name="b"), tmp_path / "a", host=host,
        record=MemoryRecord(tmp_path / "r2"),
    )  # fmt: skip
    wanted = run(tiny_job(pictures, **DRAWN), tmp_path / "c", host=TinyHost(tmp_path / "c", exchanged))
    assert_same(having.tensors, wanted.tensors)
    assert any(not torch.equal(tensor, having.tensors[name]) for name, tensor in without.tensors.items())
    drawn = [found.record.pictures[0][3].tobytes() for found in (without, having, wanted)]
    assert drawn[1] == drawn[2] != drawn[0]
    again = run(
        tiny_job(pictures, **kept, output_name="d"), tmp_path / "a", host=host, record=MemoryRecord(tmp_path / "r3")
    )
    assert_same(again.tensors, without.tensors)


def test_a_whole_model_is_saved_with_it(pictures: Path, tmp_path: Path) -> None:
    vae = own_vae(tmp_path / "vae", tiny_parts())
    done = run(tiny_job(pictures, max_train_steps=1, train_whole_model=True, vae=vae), tmp_path / "a")
    assert done.outcome.path is not None
    saved = load_checkpoint(done.outcome.path).parts.vae
    assert saved is not None
    assert_same(dict(saved.state_dict()), load_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_in_every_family(family: str, tmp_path: Path) -> None:
    base = parts_of(family)
    pictures = write_pictures(tmp_path / "pictures", 1, side=64)
    asked = {"max_train_steps": 1, "resolution": "64", "min_bucket_reso": 64, "max_bucket_reso": 64}
    runs = [
        run(tiny_job(pictures, **asked, vae=vae), tmp_path / name, host=TinyHost(tmp_path / name, parts_of(family)))
        for name, vae in (("a", None), ("b", own_vae(tmp_path / "vae", base)))
    ]
    assert any(not torch.equal(tensor, runs[1].tensors[name]) for name, tensor in runs[0].tensors.items())


WRONG = [("none.safetensors", "there is no such file or folder"), ("x.toml", "is not a VAE file")]


@pytest.mark.parametrize(("name", "words"), WRONG)
@pytest.mark.parametrize("whole", [False, True])
def test_a_missing_or_wrong_one_ends_the_run_before_its_first_step(
    name: str, words: str, whole: bool, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_text("seed = 1", encoding="utf-8")
    record = MemoryRecord(tmp_path / "record")
    job = tiny_job(pictures, vae=str(tmp_path / name), train_whole_model=whole, class_prompt=["a"], num_class_images=1)
    host = TinyHost(tmp_path)
    with pytest.raises(AtelierError, match=words):
        run(job, tmp_path, host=host, record=record)
    assert host.turns == 0 and record.rows == [] and not any(host.folders.lora.iterdir())


def test_the_webui_does_not_draw_with_another_one(pictures: Path, tmp_path: Path) -> None:
    vae = own_vae(tmp_path / "vae", tiny_parts())
    done = run(tiny_job(pictures, **DRAWN, vae=vae, sample_with="host"), tmp_path / "a")
    assert done.record.told("VAE would be missing")
    assert len(done.record.pictures) == 1
