"""Masks of which nothing is left in the part of a picture that is used: told once, also when they are cached."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.settings.schema import Settings
from atelier.data.dataset import TrainingData
from atelier.data.scan import scan
from atelier.data.tensor_cache import TensorCache


def told_of(subset: Subset, cache: TensorCache | None = None, rounds: int = 2) -> list[str]:
    datasets = DatasetConfig([Dataset(resolution=(64, 64), min_bucket_reso=64, enable_bucket=False, subsets=[subset])])
    told: list[str] = []
    settings = Settings(masked_loss=True)
    data = TrainingData(scan(datasets, "sks"), settings, 1, on_problem=lambda path, reason: told.append(reason))
    for index in range(rounds):
        for key in data.batch(index, cache).keys if cache is not None else data.batch(index, None).keys:
            if cache is not None and cache.get(key) is None:
                cache.put(key, torch.zeros(4, 8, 8))
    return told


def test_a_picture_that_is_transparent_all_over(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(tmp_path / "a.png")
    (told,) = told_of(Subset(str(tmp_path)))
    assert told == f"{tmp_path / 'a.png'}: it is transparent all over, so nothing of it is learned."
    cache = TensorCache(None, "vae")
    told_of(Subset(str(tmp_path)), cache)
    assert len(told_of(Subset(str(tmp_path)), cache, rounds=1)) == 1, "its mask comes from the cache now"


@pytest.mark.parametrize(("white", "count"), [((100, 0, 130, 64), 1), ((40, 0, 90, 64), 0)])
def test_a_mask_whose_white_part_is_cropped_away(tmp_path: Path, white: tuple[int, int, int, int], count: int) -> None:
    (tmp_path / "m").mkdir()
    Image.new("RGB", (192, 64)).save(tmp_path / "a.png")
    mask = Image.new("L", (192, 64), 0)
    mask.paste(255, (white[0] + 32, 0, white[2] + 32, 64) if count else white)
    mask.save(tmp_path / "m" / "a.png")
    told = told_of(Subset(str(tmp_path), conditioning_data_dir=str(tmp_path / "m")))
    assert ["nothing white in the part that is used" in text for text in told] == [True] * count
