"""Caption files of any bytes, and the pipeline from a raw caption to the text of one draw."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atelier.config.datasets import Subset
from atelier.data.captions import (
    Caption,
    caption_from_name,
    decode,
    final_caption,
    find_caption,
    read_caption_file,
    read_metadata,
)

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def say(raw: str, trigger: str = "", seed: int = 0, epoch: int = 0, step: int = 0, total: int = 0, **keys: Any) -> str:
    return final_caption(raw, Subset(**keys), random.Random(seed), epoch, step, trigger, total)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("ein Kätzchen".encode(), "ein Kätzchen"),
        ("ein Kätzchen".encode("utf-8-sig"), "ein Kätzchen"),
        ("ein Kätzchen".encode("cp1252"), "ein Kätzchen"),
        ("ein Kätzchen".encode("utf-16"), "ein Kätzchen"),
        ("猫の写真".encode(), "猫の写真"),
        (b"a\x00 cat\x07", "a cat"),
        (b"", ""),
    ],
)
def test_encodings(data: bytes, text: str) -> None:
    assert decode(data) == text


@QUICK
@given(data=st.binary(max_size=400), wildcard=st.booleans())
def test_any_bytes_are_a_caption(tmp_path: Path, data: bytes, wildcard: bool) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    text = read_caption_file(tmp_path / "a.txt", wildcard)
    assert text is not None and "\x00" not in text and text == text.strip() and (wildcard or "\n" not in text)
    assert isinstance(say(text, "sks", enable_wildcard=wildcard, shuffle_caption=True), str)


def test_long_file_cut_within_a_letter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a" + "é".encode() * 70_000)
    text = read_caption_file(tmp_path / "a.txt", False)
    assert text is not None and set(text) == {"a", "é"}


def test_of_a_large_file_the_beginning_is_read(tmp_path: Path) -> None:
    """64 KB are far more than any text encoder takes, and a file of gigabytes must not fill the memory."""
    (tmp_path / "a.txt").write_bytes(b"0123456789abcdef" * 2**16)
    assert read_caption_file(tmp_path / "a.txt", False) == "0123456789abcdef" * 2**12
    (tmp_path / "b.txt").write_bytes(b"a cat\n" * 2**18)
    text = read_caption_file(tmp_path / "b.txt", True)
    assert text is not None and 2**16 - 6 <= len(text) <= 2**16


def test_what_is_no_caption_file(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    assert read_caption_file(tmp_path / "folder.txt", False) is None
    assert read_caption_file(tmp_path / "missing.txt", False) is None
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")
        assert read_caption_file(tmp_path / "pipe.txt", False) is None


def test_where_a_caption_comes_from(tmp_path: Path) -> None:
    picture = tmp_path / "red_fox (2).png"
    subset = Subset(caption_extension="tags", caption_from_name=True, class_tokens="fox")
    assert find_caption(picture, subset) == Caption("red fox", "name")
    assert find_caption(picture, Subset(class_tokens="fox")) == Caption("fox", "class")
    assert find_caption(picture, Subset()) == Caption("", "none")
    assert find_caption(picture, Subset(), {"red_fox (2)": "told"}) == Caption("told", "metadata")
    (tmp_path / "red_fox (2).png.txt").write_text("beside its full name")
    assert find_caption(picture, subset).text == "beside its full name"
    (tmp_path / "red_fox (2).caption").write_text("caption")
    (tmp_path / "red_fox (2).txt").write_text("\n first \n second")
    assert find_caption(picture, subset) == Caption("first", "file")
    assert find_caption(picture, subset, {"red_fox (2)": "told"}) == Caption("told", "metadata"), "it wins, as in kohya"
    assert find_caption(picture, Subset(enable_wildcard=True)).text == "first\nsecond"
    assert find_caption(picture, Subset(caption_extension=".caption")).text == "caption"
    (tmp_path / "red_fox (2).tags").write_text("own extension")
    assert find_caption(picture, subset).text == "own extension"
    (tmp_path / "red_fox (2).tags").write_text(" \n")
    assert find_caption(picture, subset).text == "first", "an empty file is no caption"
    assert find_caption(picture, Subset(caption_extension="/../secret")).text == "first"


def test_metadata_is_found_by_path_name_or_stem_the_exact_first(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    entries = {"a": "by stem", "a.png": "by name", str(picture): "by path"}
    for key in ("by path", "by name", "by stem"):
        assert find_caption(picture, Subset(class_tokens="fox"), entries) == Caption(key, "metadata")
        entries = {alias: text for alias, text in entries.items() if text != key}
    assert find_caption(picture, Subset(class_tokens="fox"), entries) == Caption("fox", "class")
    assert find_caption(picture, Subset(class_tokens="fox"), {"a": ""}) == Caption("fox", "class"), (
        "an empty one is none"
    )


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("red_fox_003.png", "red fox"),
        ("a man, smiling.jpg", "a man, smiling"),
        ("IMG_2041.JPG", ""),
        ("20240101_120000.jpg", ""),
        ("0001.png", ""),
        ("mech2.png", "mech2"),
        ("photo-of+a dog (1).webp", "photo-of a dog"),
    ],
)
def test_names_as_captions(name: str, caption: str) -> None:
    assert caption_from_name(Path(name)) == caption


def test_metadata_file(tmp_path: Path) -> None:
    entries = {"C:\\x\\a.png": {"caption": "a cat", "tags": "fur, tail"}, "b": {}, "c": 3}
    (tmp_path / "meta.json").write_text(json.dumps(entries))
    found = read_metadata(tmp_path / "meta.json")
    assert found["a"] == found["a.png"] == "a cat, fur, tail" and found["b"] == ""
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(ValueError, match="object"):
        read_metadata(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("raw", "keys", "text"),
    [
        ("", {}, "sks"),
        ("a dog in a park", {}, "sks, a dog in a park"),
        ("a photo of SKS dog", {}, "a photo of SKS dog"),
        ("asks a question", {}, "sks, asks a question"),
        ("sks dog", {}, "sks dog"),
        ("a dog", {"is_reg": True}, "a dog"),
        ("a dog", {"caption_prefix": "best", "caption_suffix": "end"}, "sks, best a dog end"),
        ("a dog", {"caption_dropout_rate": 1.0}, ""),
        ("a;;;b", {"secondary_separator": ";;;"}, "sks, a,b"),
        ("a, b ||| c", {"keep_tokens_separator": "|||"}, "sks, a, b, c"),
    ],
)
def test_trigger_and_additions(raw: str, keys: dict[str, object], text: str) -> None:
    assert say(raw, "sks", **keys) == text


def test_trigger_stays_in_front_when_shuffled() -> None:
    for seed in range(20):
        assert say("a, b, c, d", "sks", seed, shuffle_caption=True).startswith("sks, ")
        assert say("sks, b, c, d", "sks", seed, shuffle_caption=True).startswith("sks, ")
        assert say("a, b, c, d", "sks", seed, shuffle_caption=True, keep_tokens=1).startswith("sks, a, ")
        assert say("a, b, sks, d", "sks", seed, caption_tag_dropout_rate=1.0) == "sks"


def test_shuffle_uses_every_order_and_keeps_the_kept() -> None:
    orders = Counter(say("x, y, a, b, c", seed=seed, shuffle_caption=True, keep_tokens=2) for seed in range(600))
    assert len(orders) == 6 and min(orders.values()) > 60
    assert all(order.startswith("x, y, ") for order in orders)


def test_kept_by_separator_in_front_and_behind() -> None:
    for seed in range(10):
        marks = {"shuffle_caption": True, "keep_tokens_separator": "|||", "keep_tokens": 9}
        text = say("a, b ||| c, d ||| e, f", seed=seed, **marks)
        assert text in ("a, b, c, d, e, f", "a, b, d, c, e, f")


def test_secondary_separator_keeps_tags_together() -> None:
    seen = {say("a;;;b, c", seed=seed, shuffle_caption=True, secondary_separator=";;;") for seed in range(20)}
    assert seen == {"a,b, c", "c, a,b"}


def test_other_separator() -> None:
    seen = {say("a b; c, d", seed=seed, shuffle_caption=True, caption_separator=";") for seed in range(20)}
    assert seen == {"a b, c, d", "c, d, a b"}


def test_rates_of_dropout() -> None:
    rng = random.Random(1)
    dropped = sum(final_caption("a, b", Subset(caption_dropout_rate=0.25), rng) == "" for _ in range(4000))
    assert 900 < dropped < 1100
    kept = sum(
        len(final_caption("a, b, c, d", Subset(caption_tag_dropout_rate=0.25, keep_tokens=1), rng).split(", "))
        for _ in range(4000)
    )
    assert 12700 < kept < 13300  # 4000 * (1 + 3 * 0.75) = 13000


def test_dropout_by_epoch_counts_from_one_as_kohya_does() -> None:
    texts = [say("a", epoch=epoch, caption_dropout_every_n_epochs=3) for epoch in range(7)]
    assert texts == ["a", "a", "", "a", "a", "", "a"]


def test_token_warmup() -> None:
    tags = "a, b, c, d, e"
    lengths = [len(say(tags, step=step, token_warmup_step=8).split(", ")) for step in range(10)]
    assert lengths == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]  # floor(step * (5 - 1) / 8) + 1
    assert say(tags, step=0, token_warmup_step=8, token_warmup_min=3, keep_tokens=1) == "a, b, c, d"
    assert say(tags, step=40, token_warmup_step=0.5, total=100, token_warmup_min=2) == "a, b, c, d"  # 40 * 3 / 50 + 2
    assert say(tags, step=50, token_warmup_step=0.5, total=100) == tags


def test_wildcards() -> None:
    seen = {say("{red|blue} {{x}} {cat}", seed=seed, enable_wildcard=True) for seed in range(30)}
    assert seen == {"red {x} cat", "blue {x} cat"}
    lines = {say("one\ntwo", seed=seed, enable_wildcard=True, caption_prefix="p") for seed in range(30)}
    assert lines == {"p one", "p two"}
    assert say("{a|b}\ntwo") == "{a|b}"


CAPTIONS = st.text(alphabet=st.sampled_from(list("abсé ,;|{}\n#.*()\\$\ue000")), max_size=60)
SUBSETS = st.builds(
    Subset,
    shuffle_caption=st.booleans(),
    keep_tokens=st.integers(-1, 6),
    keep_tokens_separator=st.sampled_from(["", "|||", "|"]),
    secondary_separator=st.sampled_from([None, ";;", ";"]),
    caption_separator=st.sampled_from([",", ";", ""]),
    enable_wildcard=st.booleans(),
    caption_dropout_rate=st.sampled_from([0.0, 0.5]),
    caption_tag_dropout_rate=st.sampled_from([0.0, 0.5, 1.0]),
    token_warmup_step=st.sampled_from([0.0, 0.3, 5.0]),
    token_warmup_min=st.integers(0, 9),
    caption_prefix=st.sampled_from([None, "", "in front"]),
)


@QUICK
@given(raw=CAPTIONS, subset=SUBSETS, seed=st.integers(0, 9), trigger=st.sampled_from(["", "sks", "a.*b", "(x"]))
def test_any_caption_with_any_subset(raw: str, subset: Subset, seed: int, trigger: str) -> None:
    text = final_caption(raw, subset, random.Random(seed), seed, seed, trigger, 10)
    assert text == final_caption(raw, subset, random.Random(seed), seed, seed, trigger, 10)
    assert "\n" not in text
    if trigger and not (text == "" and subset.caption_dropout_rate):
        assert trigger in text
