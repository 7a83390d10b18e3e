"""The latent cache: what was put comes back to the same bits, from memory or disk, and faults cost only time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from atelier.data.batch import ONCE
from atelier.data.tensor_cache import TensorCache

KEY = "0" * 64


def test_memory_alone() -> None:
    cache = TensorCache(None, "vae")
    assert cache.get(KEY) is None and KEY not in cache
    cache.put(KEY, torch.ones(4, 8, 8))
    assert KEY in cache and torch.equal(cache.get(KEY), torch.ones(4, 8, 8)) and cache.path(KEY) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_disk_gives_the_same_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    latents = torch.randn(4, 9, 7).to(dtype)
    TensorCache(tmp_path / "new" / "folder", "vae").put(KEY, latents)
    found = TensorCache(tmp_path / "new" / "folder", "vae").get(KEY)
    assert found is not None and found.dtype == dtype and torch.equal(found, latents)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".safetensors"]


def test_what_is_kept_is_a_copy(tmp_path: Path) -> None:
    cache, latents = TensorCache(None, "vae"), torch.ones(8, 4)
    cache.put(KEY, latents.t())
    latents.zero_()
    assert torch.equal(cache.get(KEY), torch.ones(4, 8))


def test_another_vae_finds_nothing(tmp_path: Path) -> None:
    TensorCache(tmp_path, "vae").put(KEY, torch.ones(1))
    assert TensorCache(tmp_path, "other").get(KEY) is None
    assert TensorCache(tmp_path, "vae").get("1" * 64) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "another tensor"])
def test_a_damaged_file_is_ignored_and_rewritten(tmp_path: Path, damage: str) -> None:
    TensorCache(tmp_path, "vae").put(KEY, torch.ones(4, 8, 8))
    path = TensorCache(tmp_path, "vae").path(KEY)
    assert path is not None
    whole = path.read_bytes()
    if damage == "another tensor":
        from safetensors.torch import save

        path.write_bytes(save({"other": torch.ones(1)}))
    else:
        path.write_bytes({"cut": whole[:-5], "empty": b"", "noise": b"\xff" * len(whole)}[damage])
    cache = TensorCache(tmp_path, "vae")
    assert cache.get(KEY) is None and not path.exists()
    cache.put(KEY, torch.ones(4, 8, 8))
    assert path.read_bytes() == whole


def test_pixels_that_do_not_come_again_are_not_kept(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, "vae")
    cache.put(f"{ONCE}0-1", torch.ones(1))
    assert f"{ONCE}0-1" not in cache and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = TensorCache(tmp_path / "file", "vae", memory_limit=1)
    for number in range(3):
        cache.put(str(number), torch.full((4,), float(number)))
    assert cache.disk_problem is not None and "file" in cache.disk_problem
    assert all(str(number) in cache for number in range(3)), "memory holds what the disk does not"


def test_full_disk_leaves_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache = TensorCache(tmp_path, "vae")
    cache.put(KEY, torch.ones(4))
    assert cache.disk_problem is not None and "No space left" in cache.disk_problem and KEY in cache
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_memory_is_bounded_when_there_is_a_disk(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, "vae", memory_limit=4 * 100 * 3)
    for number in range(10):
        cache.put(str(number), torch.full((100,), float(number)))
    assert len(cache._held) == 3 and cache._bytes == 1200
    for number in range(10):
        assert torch.equal(cache.get(str(number)), torch.full((100,), float(number)))
    cache.put("0", torch.zeros(50))
    cache.put("0", torch.zeros(50))
    assert cache._bytes == sum(tensor.numel() * 4 for tensor in cache._held.values())


def test_several_threads_and_caches_at_once(tmp_path: Path) -> None:
    wrong: list[str] = []

    def work() -> None:
        cache = TensorCache(tmp_path, "vae")
        for turn in range(30):
            key = str(turn % 5)
            found = cache.get(key)
            if found is not None and not torch.equal(found, torch.full((64,), float(key))):
                wrong.append(key)
            cache.put(key, torch.full((64,), float(key)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5
