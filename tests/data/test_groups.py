"""Pictures that the VAE takes at once: always the same ones."""

from __future__ import annotations

from pathlib import Path

import torch

from atelier.config.datasets import Subset
from atelier.data.tensor_cache import TensorCache
from tests.data.test_dataset import SETTINGS, folder, make


def test_what_is_encoded_together_does_not_rest_on_what_is_cached(tmp_path: Path) -> None:
    """Three at once, of one size, the batch's own among them; the same ones later, when some are cached."""
    subsets = [Subset(str(folder(tmp_path / "a", 7))), Subset(str(folder(tmp_path / "b", 2, (96, 48))))]
    settings = SETTINGS.replace(vae_batch_size=3)
    data, cache = make(*subsets, settings=settings), TensorCache(None, "vae")
    groups: dict[tuple[str, ...], torch.Tensor] = {}
    for index in range(data.batches_per_epoch):
        batch = data.batch(index, cache)
        together = [key for group in batch.together for key in group.keys]
        assert set(batch.keys) <= set(together)
        for group in batch.together:
            assert len(group.keys) == len(group.pixels) <= 3
            groups[tuple(group.keys)] = group.pixels
    assert sorted(map(len, groups)) == [1, 2, 3, 3] and len({key for keys in groups for key in keys}) == 9
    again, half = make(*subsets, settings=settings), TensorCache(None, "vae")
    for key in list(groups)[0][1:]:
        half.put(key, torch.zeros(4, 8, 8))
    for index in range(again.batches_per_epoch):
        for group in again.batch(index, half).together:
            assert torch.equal(group.pixels, groups[tuple(group.keys)])
    assert make(*subsets).batch(0, cache).together == [] == data.batch(0, None).together


def test_a_picture_that_is_lost_leaves_its_group(tmp_path: Path) -> None:
    data = make(Subset(str(folder(tmp_path / "a", 4))), settings=SETTINGS.replace(vae_batch_size=4))
    cache = TensorCache(None, "vae")
    (group,) = data.batch(0, cache).together
    data.scan.pictures[data.draws(1)[0].picture].path.unlink()
    (left,) = data.batch(0, cache).together
    assert len(group.keys) == 4 and len(left.keys) == 3 and set(left.keys) < set(group.keys)
