"""Batches: which pictures, in which order, from the cache or from files, also when files vanish."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.errors import AtelierError
from atelier.config.settings.schema import Settings
from atelier.data.batch import ONCE, Batch
from atelier.data.dataset import TrainingData
from atelier.data.scan import scan
from atelier.data.tensor_cache import TensorCache

SETTINGS = Settings(max_train_steps=100)


def write(path: Path, size: tuple[int, int] = (64, 64), seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(mode)), dtype=np.uint8)
    Image.fromarray(values, mode).save(path)
    return path


def folder(path: Path, count: int, size: tuple[int, int] = (64, 64)) -> Path:
    for number in range(count):
        write(path / f"{path.name}{number:02}.png", size, number)
    return path


def make(*subsets: Subset, settings: Settings = SETTINGS, seed: int = 7, **keys: Any) -> TrainingData:
    named = {item.name for item in dataclasses.fields(Dataset)}
    sizes = {"resolution": (64, 64), "min_bucket_reso": 32, "bucket_reso_steps": 8, "batch_size": 2}
    dataset = Dataset(**{**sizes, **{key: keys.pop(key) for key in list(keys) if key in named}}, subsets=list(subsets))
    return TrainingData(scan(DatasetConfig([dataset]), "sks"), settings, seed, **keys)


def encode(pixels: torch.Tensor) -> torch.Tensor:
    """Stands for a VAE: [B, 3, H, W] to [B, 4, H/8, W/8]."""
    small = torch.nn.functional.avg_pool2d(pixels, 8)
    return torch.cat([small, small.mean(dim=1, keepdim=True)], dim=1)


def fill(data: TrainingData, cache: TensorCache, epochs: int = 10) -> int:
    """Caches what epochs use that is not cached. Gives how much that was."""
    count = 0
    for index in range(epochs * data.batches_per_epoch):
        batch = data.batch(index, cache)
        for key, row in zip(batch.keys, encode(batch.pixels) if batch.pixels is not None else ()):
            if key not in cache:
                cache.put(key, row)
                count += 1
    return count


def uses(data: TrainingData, epoch: int) -> list[str]:
    first = epoch * data.batches_per_epoch
    return [
        data.scan.pictures[draw.picture].path.name
        for index in range(first, first + data.batches_per_epoch)
        for draw in data.draws(index)
    ]


def test_an_epoch_uses_every_picture_as_often_as_it_repeats(tmp_path: Path) -> None:
    data = make(Subset(str(folder(tmp_path / "a", 3)), num_repeats=2), Subset(str(folder(tmp_path / "b", 1))))
    assert data.batches_per_epoch == 4 and data.uses_per_epoch == 7
    for epoch in range(3):
        assert Counter(uses(data, epoch)) == {"a00.png": 2, "a01.png": 2, "a02.png": 2, "b00.png": 1}
    assert uses(data, 0) != uses(data, 1)
    assert [data.epoch_of(index) for index in (0, 3, 4, 11)] == [0, 0, 1, 2]


def test_a_batch_has_one_size(tmp_path: Path) -> None:
    mixed = tmp_path / "a"
    for number in range(9):
        write(mixed / f"{number}.png", random.Random(number).choice([(64, 64), (96, 48), (48, 96)]), number)
    data = make(Subset(str(mixed)), batch_size=3)
    for index in range(data.batches_per_epoch):
        sizes = {data.scan.pictures[draw.picture].bucket for draw in data.draws(index)}
        assert len(sizes) == 1
        pixels = data.batch(index, None).pixels
        assert pixels is not None and tuple(pixels.shape[-2:]) == next(iter(sizes))[::-1]


def test_draws_follow_from_seed_and_number_alone(tmp_path: Path) -> None:
    subset = Subset(str(folder(tmp_path / "a", 5)), flip_aug=True, shuffle_caption=True)
    first, second = make(subset), make(subset)
    numbers = list(range(30))
    expected = [first.draws(number) for number in numbers]
    random.Random(0).shuffle(numbers)
    assert {number: second.draws(number) for number in numbers} == dict(enumerate(expected))
    other = make(subset, seed=8)
    assert [other.draws(number) for number in range(30)] != expected
    flips = [draw.flipped for draws in expected for draw in draws]
    assert 10 < sum(flips) < len(flips) - 10
    seeds = [draw.seed for draws in expected for draw in draws]
    assert len(set(seeds)) == len(seeds)


def test_captions_are_drawn_anew_each_epoch_and_the_same_again(tmp_path: Path) -> None:
    write(tmp_path / "a" / "0.png").with_suffix(".txt").write_text("a, b, c, d, e, f")
    data = make(Subset(str(tmp_path / "a"), shuffle_caption=True))
    texts = [data.batch(index, None).captions[0] for index in range(8)]
    assert len(set(texts)) > 5 and all(text.startswith("sks, ") for text in texts)
    assert texts == [data.batch(index, None).captions[0] for index in range(8)]


def test_accumulation_counts_steps(tmp_path: Path) -> None:
    subset = Subset(str(folder(tmp_path / "a", 5)), token_warmup_step=0.5)
    data = make(subset, settings=SETTINGS.replace(gradient_accumulation_steps=2, max_train_epochs=4))
    assert data.batches_per_epoch == 3 and data.steps_per_epoch == 2
    assert [data.draws(index)[0].step for index in range(6)] == [0, 0, 1, 1, 2, 2]
    assert data._total_steps == 6


def test_regularisation_pictures_match_the_others_in_number(tmp_path: Path) -> None:
    learnt = Subset(str(folder(tmp_path / "a", 4)), num_repeats=2)
    few = Subset(str(folder(tmp_path / "r", 3)), is_reg=True, class_tokens="dog")
    data = make(learnt, few, settings=SETTINGS.replace(prior_loss_weight=0.3), batch_size=4)
    counts = Counter(uses(data, 0))
    assert [counts[f"r0{number}.png"] for number in range(3)] == [3, 3, 2] and data.uses_per_epoch == 16
    mixed = 0
    for index in range(data.batches_per_epoch):
        batch = data.batch(index, None)
        for path, weight, caption in zip(batch.pictures, batch.loss_weights.tolist(), batch.captions):
            assert (weight, caption) == ((pytest.approx(0.3), "dog") if path.name[0] == "r" else (1.0, "sks"))
        mixed += len({path.name[0] for path in batch.pictures}) == 2
    assert mixed, "both kinds meet in batches"
    many = Subset(str(folder(tmp_path / "m", 20)), is_reg=True)
    counts = Counter(uses(make(learnt, many), 0))
    assert sum(count for name, count in counts.items() if name[0] == "m") == 8


def test_several_datasets_keep_their_sizes(tmp_path: Path) -> None:
    shared = {"min_bucket_reso": 32, "bucket_reso_steps": 8}
    datasets = DatasetConfig([
        Dataset(resolution=(64, 64), batch_size=2, subsets=[Subset(str(folder(tmp_path / "a", 3)))], **shared),
        Dataset(resolution=(96, 96), batch_size=3, subsets=[Subset(str(folder(tmp_path / "b", 3)))], **shared),
    ])  # fmt: skip
    data = TrainingData(scan(datasets, "sks"), SETTINGS, 1)
    shapes = Counter(tuple(data.batch(index, None).pixels.shape) for index in range(data.batches_per_epoch))
    assert shapes == {(2, 3, 64, 64): 1, (1, 3, 64, 64): 1, (3, 3, 96, 96): 1}


def test_what_a_batch_says(tmp_path: Path) -> None:
    write(tmp_path / "a" / "wide.png", (200, 100))
    batch = make(Subset(str(tmp_path / "a"), caption_prefix="p")).batch(0, None)
    bucket = batch.target_sizes.tolist()[0]
    assert batch.pixels is not None and list(batch.pixels.shape) == [1, 3, *bucket] and batch.latents is None
    assert batch.pixels.min() >= -1 and batch.pixels.max() <= 1
    assert batch.original_sizes.tolist() == [[100, 200]] and batch.original_sizes.dtype == torch.int64
    assert batch.crop_top_lefts.shape == (1, 2) and batch.captions == ["sks, p"]
    assert (batch.first, batch.total, len(batch), batch.masks) == (0, 1, 1, None)
    assert batch.keys[0].startswith(ONCE)


def test_latents_come_from_the_cache_and_equal_fresh_ones(tmp_path: Path) -> None:
    subset = Subset(str(folder(tmp_path / "a", 4)), flip_aug=True)
    data, cache = make(subset), TensorCache(tmp_path / "cache", "vae")
    fresh = [encode(data.batch(index, cache).pixels) for index in range(6)]
    assert fill(data, cache) == 8 and fill(data, cache) == 0
    for held in (cache, TensorCache(tmp_path / "cache", "vae")):
        for index, expected in enumerate(fresh):
            batch = data.batch(index, held)
            assert batch.pixels is None and torch.equal(batch.latents, expected)
    assert data.batch(0, TensorCache(tmp_path / "cache", "other vae")).latents is None


def test_a_changed_picture_is_never_served_stale(tmp_path: Path) -> None:
    subset, cache = Subset(str(folder(tmp_path / "a", 2))), TensorCache(tmp_path / "cache", "vae")
    fill(make(subset), cache)
    before = make(subset).batch(0, cache).latents
    write(tmp_path / "a" / "a00.png", seed=99)
    again = make(subset)
    assert again.batch(0, cache).latents is None and fill(again, cache) == 1
    assert not torch.equal(again.batch(0, cache).latents, before)


@pytest.mark.parametrize("change", [{"resolution": (48, 48)}, {"resize_interpolation": "nearest"}])
def test_changed_settings_are_never_served_stale(tmp_path: Path, change: dict[str, Any]) -> None:
    subset, cache = Subset(str(folder(tmp_path / "a", 2))), TensorCache(None, "vae")
    fill(make(subset), cache)
    assert make(subset).batch(0, cache).latents is not None
    assert make(subset, **change).batch(0, cache).latents is None


@pytest.mark.parametrize("augmentation", ["random_crop", "color_aug"])
def test_augmented_pixels_differ_and_are_not_cached(tmp_path: Path, augmentation: str) -> None:
    write(tmp_path / "a" / "0.png", (300, 80))
    subset, cache = Subset(str(tmp_path / "a"), **{augmentation: True}), TensorCache(None, "vae")
    data = make(subset, enable_bucket=False)
    batches = [data.batch(index, cache) for index in range(20)]
    assert all(batch.keys[0].startswith(ONCE) for batch in batches)
    assert len({batch.keys[0] for batch in batches}) == 20
    assert len({batch.pixels.sum().item() for batch in batches}) > 3
    assert torch.equal(batches[3].pixels, data.batch(3, cache).pixels)


def test_without_cache_latents_nothing_is_kept(tmp_path: Path) -> None:
    data = make(Subset(str(folder(tmp_path / "a", 2))), settings=SETTINGS.replace(cache_latents=False))
    cache = TensorCache(None, "vae")
    assert data.batch(0, cache).keys[0].startswith(ONCE)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_a_global_batch(tmp_path: Path, world: int) -> None:
    data = make(Subset(str(folder(tmp_path / "a", 7))), batch_size=2, batch_size_multiplier=2)
    assert data.batches_per_epoch == 2
    for index in range(4):
        whole = data.batch(index, None)
        parts = [data.batch(index, None, rank, world) for rank in range(world)]
        assert [path for part in parts for path in part.pictures] == whole.pictures
        assert [text for part in parts for text in part.captions] == whole.captions
        assert all(part.total == len(whole) for part in parts)
        place = 0
        for part in parts:
            assert part.first == place or not len(part)
            place += len(part)
        empty = [part for part in parts if not len(part)]
        assert all(part.pixels is None and part.loss_weights.shape == (0,) for part in empty)
        assert all(part.target_sizes.shape == (0, 2) for part in empty)


# -- masks ------------------------------------------------------------------------------------------------------------


def half_transparent(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", (64, 64), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    image.save(path)


def test_alpha_masks_from_files_and_from_the_cache(tmp_path: Path) -> None:
    half_transparent(tmp_path / "a" / "half.png")
    write(tmp_path / "a" / "whole.png")
    data, cache = make(Subset(str(tmp_path / "a"), alpha_mask=True, flip_aug=True)), TensorCache(tmp_path / "c", "vae")
    fresh = [data.batch(index, cache) for index in range(6)]
    fill(data, cache)
    cached = [data.batch(index, TensorCache(tmp_path / "c", "vae")) for index in range(6)]
    for one, other in zip(fresh, cached):
        assert one.masks is not None and one.masks.shape == (2, 1, 8, 8)
        assert other.latents is not None and torch.equal(one.masks, other.masks)
        for draw, mask in zip(one.draws, one.masks):
            half = torch.tensor([0.0] * 4 + [1.0] * 4).expand(1, 8, 8)
            is_half = data.scan.pictures[draw.picture].path.name == "half.png"
            expected = (half.flip(2) if draw.flipped else half) if is_half else torch.ones(1, 8, 8)
            assert torch.equal(mask, expected)


def test_latents_cached_without_masks_still_get_masks(tmp_path: Path) -> None:
    half_transparent(tmp_path / "a" / "half.png")
    cache = TensorCache(None, "vae")
    fill(make(Subset(str(tmp_path / "a"))), cache)
    data = make(Subset(str(tmp_path / "a"), alpha_mask=True))
    assert data.batch(0, cache).masks is not None
    assert make(Subset(str(tmp_path / "a"))).batch(0, cache).masks is None
    assert data.batch(0, cache).latents is not None and data.batch(0, cache).masks is not None


def test_masked_loss_takes_mask_pictures_else_transparency(tmp_path: Path) -> None:
    half_transparent(tmp_path / "a" / "one.png")
    (tmp_path / "m").mkdir()
    Image.new("L", (64, 64), 51).save(tmp_path / "m" / "one.png")
    settings = SETTINGS.replace(masked_loss=True)
    masks = make(Subset(str(tmp_path / "a"), conditioning_data_dir=str(tmp_path / "m")), settings=settings)
    found = masks.batch(0, None).masks
    assert found is not None and torch.allclose(found, torch.full((1, 1, 8, 8), 0.2))
    plain = make(Subset(str(tmp_path / "a")), settings=settings).batch(0, None).masks
    assert plain is not None and plain[0, 0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


# -- validation -------------------------------------------------------------------------------------------------------


def test_validation_holds_pictures_out(tmp_path: Path) -> None:
    subset = Subset(str(folder(tmp_path / "a", 10)), num_repeats=3, flip_aug=True, shuffle_caption=True)
    reg = Subset(str(folder(tmp_path / "r", 4)), is_reg=True)
    data = make(subset, reg, validation_split=0.25)
    held = data.validation()
    assert held is not None and held.validation() is None
    assert len(held.pictures) == 2 and len(data.pictures) == 12  # 10 * 0.75 rounded up stay
    assert not {each.path for each in held.pictures} & {each.path for each in data.pictures}
    assert not any(each.is_reg for each in held.pictures)
    assert held.batches_per_epoch == 1 and held.draws(0) == held.draws(5)
    assert not any(draw.flipped for index in range(9) for draw in held.draws(index))
    chosen = {each.path for each in held.pictures}
    assert {each.path for each in make(subset, reg, validation_split=0.25).validation().pictures} == chosen
    seeds = [make(subset, validation_split=0.25, validation_seed=seed).validation() for seed in range(8)]
    assert len({tuple(each.path for each in other.pictures) for other in seeds if other}) > 3


def test_no_validation_without_pictures_to_spare(tmp_path: Path) -> None:
    subset = Subset(str(folder(tmp_path / "a", 1)))
    assert make(subset).validation() is None and make(subset, validation_split=0.5).validation() is None


# -- files that vanish ------------------------------------------------------------------------------------------------


def lost(data: TrainingData) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    data.on_problem = lambda path, reason: problems.append((path.name, reason))
    return problems


def batches(data: TrainingData, cache: TensorCache | None = None, count: int = 12) -> list[Batch]:
    return [data.batch(index, cache) for index in range(count)]


def test_a_deleted_picture_is_left_out_and_named_once(tmp_path: Path) -> None:
    data = make(Subset(str(folder(tmp_path / "a", 4))))
    problems = lost(data)
    (tmp_path / "a" / "a01.png").unlink()
    found = batches(data)
    assert [name for name, _ in problems] == ["a01.png"] and "removed during the run" in problems[0][1]
    assert all(len(batch) and batch.total == len(batch) for batch in found)
    assert "a01.png" not in {path.name for batch in found for path in batch.pictures}
    assert {len(batch) for batch in found} == {1, 2}


@pytest.mark.parametrize("size", [(64, 64), (32, 64)])
@pytest.mark.parametrize("used_before", [True, False])
def test_a_changed_picture_is_left_out(tmp_path: Path, size: tuple[int, int], used_before: bool) -> None:
    data, cache = make(Subset(str(folder(tmp_path / "a", 4)))), TensorCache(None, "vae")
    problems = lost(data)
    if used_before:
        batches(data, cache)
    write(tmp_path / "a" / "a01.png", size, seed=50)
    batches(data, cache)
    if used_before or size != (64, 64):
        assert [name for name, _ in problems] == ["a01.png"] and "changed during the run" in problems[0][1]
    else:
        assert not problems, "of the size it was scanned with, and not used yet: it is simply used"


def test_a_picture_that_became_unreadable(tmp_path: Path) -> None:
    data = make(Subset(str(folder(tmp_path / "a", 2))))
    problems = lost(data)
    path = tmp_path / "a" / "a00.png"
    path.write_bytes(path.read_bytes()[:-2000])
    batches(data)
    assert [name for name, _ in problems] == ["a00.png"] and "cut short" in problems[0][1]


def test_cached_pictures_outlive_their_files(tmp_path: Path) -> None:
    half_transparent(tmp_path / "a" / "half.png")
    data, cache = make(Subset(str(folder(tmp_path / "a", 3)), alpha_mask=True)), TensorCache(tmp_path / "c", "vae")
    problems = lost(data)
    fill(data, cache)
    before = batches(data, cache)
    write(tmp_path / "a" / "a00.png", seed=99)
    for name in ("a01.png", "a02.png", "half.png"):
        (tmp_path / "a" / name).unlink()
    after = batches(data, cache)
    assert not problems
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(before, after))


def test_another_picture_takes_the_place_of_a_lost_batch(tmp_path: Path) -> None:
    reg = Subset(str(folder(tmp_path / "r", 1)), is_reg=True)
    data = make(Subset(str(folder(tmp_path / "a", 3))), reg, batch_size=1)
    for name in ("a00.png", "a01.png"):
        (tmp_path / "a" / name).unlink()
    found = batches(data)
    assert {path.name for batch in found for path in batch.pictures} == {"a02.png", "r00.png"}
    assert all(len(batch) == 1 for batch in found)
    assert [batch.pictures for batch in found] == [batch.pictures for batch in batches(data)]
    (tmp_path / "a" / "a02.png").unlink()
    assert {path.name for batch in batches(data) for path in batch.pictures} == {"r00.png"}
    (tmp_path / "r" / "r00.png").unlink()
    with pytest.raises(AtelierError, match="None of the run's pictures"):
        data.batch(0, None)
