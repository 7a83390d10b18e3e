"""Every picture is encoded once and every caption once, within bounds."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.data.tensor_cache import TensorCache
from atelier.models.family import PromptEmbeds
from atelier.training.inputs import latents as latents_module
from atelier.training.inputs.prompt_embeds import PromptCache
from tests.support.training_fakes import TinyHost, assert_same, run, tiny_job, write_pictures

BATCHES = [{"train_batch_size": 1}, {"train_batch_size": 3}, {"train_batch_size": 2, "vae_batch_size": 4}]


@pytest.mark.parametrize("batches", BATCHES)
def test_each_picture_is_encoded_once(batches: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the next batches were loaded before it was."""
    encoded: Counter[float] = Counter()
    posterior = latents_module.posterior

    def noted(family: Any, vae: Any, pixels: torch.Tensor) -> Any:
        encoded.update(float(picture.double().sum()) for picture in pixels)
        return posterior(family, vae, pixels)

    monkeypatch.setattr(latents_module, "posterior", noted)
    run(tiny_job(write_pictures(tmp_path / "pictures", 4), max_train_steps=8, **batches), tmp_path)
    assert sorted(encoded.values()) == [1] * 4


class Encoder:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, captions: Sequence[str]) -> PromptEmbeds:
        self.asked += captions
        return PromptEmbeds(torch.full((len(captions), 4, 8), float(len(captions[0]))), torch.ones(len(captions), 2))


def test_each_caption_is_encoded_once() -> None:
    encoder = Encoder()
    cache = PromptCache(encoder)
    for _ in range(3):
        states = cache(["a", "bb", "a"])
    assert encoder.asked == ["a", "bb"]
    assert states.hidden[:, 0, 0].tolist() == [1.0, 2.0, 1.0] and states.pooled is not None


def test_what_is_kept_is_bounded_by_its_bytes() -> None:
    encoder = Encoder()
    one = (4 * 8 + 2) * 4
    cache = PromptCache(encoder, limit=2 * one)
    for caption in ("a", "bb", "ccc"):
        assert cache([caption]).hidden.shape == (1, 4, 8)
    cache(["ccc", "bb"])
    assert encoder.asked == ["a", "bb", "ccc"]
    cache(["a"])
    assert encoder.asked[3:] == ["a"]
    assert cache(["a", "bb", "ccc"]).hidden.shape == (3, 4, 8)  # a batch beyond the bound is served whole


def test_on_disk_captions_are_found_again_bit_for_bit(tmp_path: Path) -> None:
    encoder, random = Encoder(), torch.Generator().manual_seed(1)
    drawn = PromptEmbeds(torch.randn(1, 4, 8, generator=random), torch.randn(1, 2, generator=random))
    first = PromptCache(lambda captions: drawn, disk=TensorCache(tmp_path, "one"))(["a"])
    again = PromptCache(encoder, disk=TensorCache(tmp_path, "one"))(["a", "bb"])
    assert encoder.asked == ["bb"]
    assert torch.equal(again.hidden[0], first.hidden[0]) and again.pooled is not None and first.pooled is not None
    assert torch.equal(again.pooled[0], first.pooled[0])
    PromptCache(encoder, disk=TensorCache(tmp_path, "another"))(["a"])
    assert encoder.asked == ["bb", "a"], "embeddings of another encoder, or other settings, are not taken"


def test_a_later_run_needs_no_text_encoder_for_the_same_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    settings = {"cache_text_encoder_outputs": True, "cache_text_encoder_outputs_to_disk": True, "max_train_steps": 2}
    first = run(tiny_job(pictures, **settings), tmp_path / "a")
    encoded: list[Sequence[str]] = []
    family = type(first.host.parts.family)
    encode = family.encode

    def noted(self: Any, parts: Any, captions: Sequence[str], *more: Any) -> PromptEmbeds:
        encoded.append(captions)
        return encode(self, parts, captions, *more)

    monkeypatch.setattr(family, "encode", noted)
    again = TinyHost(tmp_path / "b")
    shutil.copytree(first.host.folders.cache, again.folders.cache, dirs_exist_ok=True)
    second = run(tiny_job(pictures, **settings), tmp_path / "b", host=again)
    assert encoded == []
    assert_same(first.tensors, second.tensors)
    run(tiny_job(pictures, **{**settings, "clip_skip": 2}), tmp_path / "c", host=again)
    assert encoded, "a setting that the embeddings depend on asks for new ones"
