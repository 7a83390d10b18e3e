"""What can go wrong during a run: nothing saved is lost, and the host's model and process stay as they were.

`run` looks at the model's bits, torch's and the process's state after every run here, however it ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from atelier.adapters.files import kohya_file
from atelier.config.errors import AtelierError
from atelier.jobs.control import Control
from atelier.training.progress.state import read_newest
from tests.support.training_fakes import MemoryRecord, Run, TinyHost, assert_same, run, tiny_job, write_pictures

resource = pytest.importorskip("resource")
STEPS = 6
SETTINGS: dict[str, Any] = {
    "max_train_steps": STEPS, "network_dropout": 0.3, "noise_offset": 0.1, "save_every_n_steps": 2, "flip_aug": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("originals"), 4)


@pytest.fixture(scope="module")
def straight(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tiny_job(originals, **SETTINGS), tmp_path_factory.mktemp("straight"))


def again(first: MemoryRecord, pictures: Path, root: Path, **settings: Any) -> Run:
    """Another run over the same record, with nothing in its way."""
    record = MemoryRecord(first.folder)
    record.saves = list(first.saves)
    return run(tiny_job(pictures, **{**SETTINGS, **settings}), root, record=record)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


# -- the disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write beyond `size` bytes of a file, in the middle of it: to us and to libraries."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def limited(size: int | None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def test_full_disk_for_a_while(originals: Path, straight: Run, tmp_path: Path) -> None:
    """The save at step 4 and its state break off in the middle; the run goes on, and what was saved before is whole."""

    def at(step: int, control: Control) -> None:
        limited(20_000 if step == 4 else None)

    record = MemoryRecord(tmp_path / "record")
    with files_of_at_most(2**40):
        done = run(tiny_job(originals, **SETTINGS), tmp_path, at, record=record)
    assert record.told("Step 4 was not saved") and record.told("The state at step 4 could not be written")
    assert [step for _, step, _, _ in record.saves] == [2, 6]
    assert leftovers(tmp_path) == []
    assert_same(done.tensors, straight.tensors)


def test_full_disk_at_the_end(originals: Path, straight: Run, tmp_path: Path) -> None:
    def at(step: int, control: Control) -> None:
        if step == STEPS:
            limited(20_000)

    record, host = MemoryRecord(tmp_path / "record"), TinyHost(tmp_path)
    with files_of_at_most(2**40), pytest.raises(AtelierError, match="could not be written"):
        run(tiny_job(originals, **SETTINGS), tmp_path, at, host, record)
    names = sorted(path.name for path in host.folders.lora.glob("*.safetensors"))
    assert names == ["tiny-step00000002.safetensors", "tiny-step00000004.safetensors"]
    assert leftovers(tmp_path) == []
    state = read_newest(record.folder / "state")
    assert state is not None and state.step == 4
    assert_same(again(record, originals, tmp_path).tensors, straight.tensors)


def test_too_little_room_is_told_before_writing(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)

    def at(step: int, control: Control) -> None:
        free = 1000 if step == 2 else usage.free
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))

    done = run(tiny_job(originals, **SETTINGS), tmp_path, at)
    assert done.record.told("Free some space") and [step for _, step, _, _ in done.record.saves] == [4, 6]


@pytest.mark.parametrize("where", ["replace", "open"])
def test_read_only_output_folder(
    where: str, originals: Path, straight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused at the end, after all the work: the state has it, and the run is finished once the folder is writable."""
    refused = PermissionError(13, "Permission denied")
    broken = {"on": False}
    replace, opened = kohya_file.os.replace, Path.open

    def guarded(kept: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if broken["on"] and "loras" in str(path) and str(path).endswith(".part"):
                raise refused
            return kept(path, *rest, **more)

        return call

    if where == "replace":
        monkeypatch.setattr(kohya_file.os, "replace", guarded(replace))
    else:
        monkeypatch.setattr(Path, "open", guarded(opened))

    def at(step: int, control: Control) -> None:
        broken["on"] = step > 3

    record = MemoryRecord(tmp_path / "record")
    with pytest.raises(AtelierError, match="Permission denied"):
        run(tiny_job(originals, **SETTINGS), tmp_path, at, record=record)
    assert record.told("Step 4 was not saved")
    broken["on"] = False
    finished = again(record, originals, tmp_path)
    assert finished.record.rows == []
    assert_same(finished.tensors, straight.tensors)


def test_latents_that_cannot_be_kept_are_told(originals: Path, straight: Run, tmp_path: Path) -> None:
    host = TinyHost(tmp_path)
    host.folders.cache.rmdir()
    host.folders.cache.write_text("a file in the way", encoding="utf-8")
    done = run(tiny_job(originals, **SETTINGS, cache_latents_to_disk=True), tmp_path, host=host)
    assert done.record.told("They stay in memory only")
    assert_same(done.tensors, straight.tensors)


def test_output_folder_that_cannot_be_made_is_told_first(originals: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "a file"
    in_the_way.write_text("", encoding="utf-8")
    record = MemoryRecord(tmp_path / "record")
    with pytest.raises(AtelierError, match="a file"):
        run(tiny_job(originals, **SETTINGS, output_dir=str(in_the_way / "loras")), tmp_path, record=record)
    assert record.rows == []


# -- the pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["deleted", "changed", "cut"])
def test_a_picture_is_lost_during_the_run(harm: str, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    lost = pictures / "picture1.png"

    def at(step: int, control: Control) -> None:
        if step != 1:
            return
        content = lost.read_bytes()
        lost.unlink()
        if harm == "changed":
            (pictures / "picture2.png").replace(lost)
        elif harm == "cut":
            lost.write_bytes(content[: len(content) // 2])

    done = run(tiny_job(pictures, **SETTINGS, cache_latents=False), tmp_path, at)
    assert done.outcome.steps == STEPS and done.record.told("picture1.png")


def test_all_pictures_are_lost(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    record = MemoryRecord(tmp_path / "record")

    def at(step: int, control: Control) -> None:
        if step == 3:
            for path in pictures.glob("*.png"):
                path.unlink()

    with pytest.raises(AtelierError, match="can be read any more"):
        run(tiny_job(pictures, **SETTINGS, cache_latents=False), tmp_path, at, record=record)
    state = read_newest(record.folder / "state")
    assert state is not None and state.step >= 3
    write_pictures(pictures)
    undisturbed = run(tiny_job(pictures, **SETTINGS, cache_latents=False), tmp_path / "undisturbed")
    assert_same(again(record, pictures, tmp_path, cache_latents=False).tensors, undisturbed.tensors)


def test_cached_pictures_may_go(tmp_path: Path, straight: Run) -> None:
    """Two steps have cached all four; without mirroring, since each picture has two sets of latents with it."""
    pictures = write_pictures(tmp_path / "pictures")

    def at(step: int, control: Control) -> None:
        if step == 4:
            for path in pictures.glob("*.png"):
                path.unlink()

    settings = {**SETTINGS, "flip_aug": False}
    done = run(tiny_job(pictures, **settings), tmp_path, at)
    write_pictures(pictures)
    assert_same(done.tensors, run(tiny_job(pictures, **settings), tmp_path / "undisturbed").tensors)


# -- the process -------------------------------------------------------------------------------------------------------


def test_another_extension_uses_accelerate(originals: Path, straight: Run, tmp_path: Path) -> None:
    AcceleratorState._reset_state(True)
    try:
        theirs = Accelerator(cpu=True, mixed_precision="bf16")
        done = run(tiny_job(originals, **SETTINGS), tmp_path)
        assert theirs.mixed_precision == "bf16" and theirs.state.mixed_precision == "bf16"
        assert_same(done.tensors, straight.tensors)
    finally:
        AcceleratorState._reset_state(True)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_host_computes_without_gradients(mode: Any, originals: Path, straight: Run, tmp_path: Path) -> None:
    host = TinyHost(tmp_path)
    with mode():
        done = run(tiny_job(originals, **SETTINGS), tmp_path, host=host)
    assert_same(done.tensors, straight.tensors)


def test_what_is_wrong_is_told_before_anything_is_borrowed(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 1)
    host = TinyHost(tmp_path)
    for changes, words in (
        ({"unet_lr": 0.0, "text_encoder_lr": [0.0]}, "There is nothing to train"),
        ({"optimizer_type": "Nonesuch"}, "is 'Nonesuch'; it can be"),
        ({"optimizer_args": ["speed=1"]}, "does not accept these arguments"),
        ({"lr_scheduler": "nonesuch"}, "is 'nonesuch'; it can be"),
        ({"mixed_precision": "fp16"}, "a CPU cannot train in"),
        ({"network_weights": str(tmp_path / "missing.safetensors")}, "missing.safetensors"),
    ):
        with pytest.raises(AtelierError, match=words):
            run(tiny_job(pictures, **changes), tmp_path, host=host, record=MemoryRecord(tmp_path / "record"))
    host.current = None
    with pytest.raises(AtelierError, match="No model is loaded"):
        run(tiny_job(pictures), tmp_path, host=host)
