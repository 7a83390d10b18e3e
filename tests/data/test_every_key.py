"""Every honoured key of a dataset TOML changes the batches: two files that differ in it give other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import tomlkit
from PIL import Image

from atelier.config.kohya.dataset_toml import read_datasets
from atelier.config.kohya.document import parse_document
from atelier.config.kohya.verdicts import HONOURED, table
from atelier.config.settings.schema import Settings
from atelier.data.dataset import TrainingData
from atelier.data.scan import scan

SETTINGS = Settings(max_train_steps=8, cache_latents=False)
BATCHES = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several shapes with captions, masks of their names, and one file of captions."""
    root = tmp_path_factory.mktemp("keys")
    captions: dict[str, Any] = {}
    for number, size in enumerate([(64, 64), (96, 48), (128, 128), (24, 24)]):
        pixels = numpy.random.default_rng(number).integers(0, 255, (size[1], size[0], 4)).astype("uint8")
        pixels[: size[1] // 2, :, 3] = 0
        for folder in ("pictures", "others", "bare"):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels, "RGBA").save(root / folder / f"p{number}.png")
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(pixels[:, :, 0]).save(root / "masks" / f"p{number}.png")
        text = f"one ||| two {number}, three; four, {{a|b}}, five, six"
        (root / "pictures" / f"p{number}.txt").write_text(text, encoding="utf-8")
        (root / "pictures" / f"p{number}.caption").write_text("another", encoding="utf-8")
        (root / "others" / f"p{number}.txt").write_text("others", encoding="utf-8")
        captions[f"p{number}"] = {"caption": f"from the file {number}"}
    (root / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    return root


SHUFFLED = {"shuffle_caption": True}
WARM = {"token_warmup_step": 8}
SPLIT = {"validation_split": 0.5, "validation_seed": 1}
ALONE = {"enable_bucket": False}
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    # key -> the values that the file has beside it, and the key's own value
    "alpha_mask": ({}, True),
    "batch_size": ({}, 1),
    "bucket_no_upscale": ({}, True),
    "bucket_reso_steps": ({}, 32),
    "caption_dropout_every_n_epochs": ({}, 1),
    "caption_dropout_rate": ({}, 1.0),
    "caption_extension": ({}, ".caption"),
    "caption_prefix": ({}, "prefix"),
    "caption_separator": (SHUFFLED, ";"),
    "caption_suffix": ({}, "suffix"),
    "caption_tag_dropout_rate": ({}, 0.9),
    "class_tokens": ({"image_dir": "<root>/bare"}, "a class"),
    "color_aug": ({}, True),
    "conditioning_data_dir": ({"alpha_mask": True}, "<root>/masks"),
    "enable_bucket": ({}, False),
    "enable_wildcard": ({}, True),
    "flip_aug": ({}, True),
    "image_dir": ({}, "<root>/others"),
    "is_reg": ({}, True),
    "keep_tokens": (SHUFFLED, 3),
    "keep_tokens_separator": (SHUFFLED, "|||"),
    "max_bucket_reso": ({}, 64),
    "metadata_file": ({}, "<root>/captions.json"),
    "min_bucket_reso": ({}, 48),
    "network_multiplier": ({}, 0.5),
    "num_repeats": ({}, 3),
    "random_crop": (ALONE, True),
    "resize_interpolation": ({}, "nearest"),
    "resolution": ({}, [48, 64]),
    "secondary_separator": ({}, ";"),
    "shuffle_caption": ({}, True),
    "token_warmup_min": (WARM, 4),
    "token_warmup_step": ({}, 8),
    "validation_seed": (SPLIT, 2),
    "validation_split": ({}, 0.5),
    "caption_from_name": ({"image_dir": "<root>/bare"}, True),
    "loss_weight": ({}, 0.5),
}
OF_DATASETS = ("batch_size", "bucket_no_upscale", "bucket_reso_steps", "enable_bucket", "max_bucket_reso", "resolution",
               "min_bucket_reso", "network_multiplier", "validation_seed", "validation_split")  # fmt: skip


def data_of(root: Path, values: dict[str, Any], trigger: str = "") -> TrainingData:
    values = json.loads(json.dumps(values).replace("<root>", root.as_posix()))
    dataset = {"resolution": 64, "min_bucket_reso": 16, "max_bucket_reso": 128, "bucket_reso_steps": 8, "batch_size": 2,
               "enable_bucket": True, **{key: values.pop(key) for key in OF_DATASETS if key in values}}  # fmt: skip
    subsets = [{"image_dir": str(root / "pictures"), **values}]
    if values.get("is_reg"):
        subsets.append({"image_dir": str(root / "others")})
    text = tomlkit.dumps({"datasets": [{**dataset, "subsets": subsets}]})
    datasets = read_datasets(parse_document(text, "x.toml"), SETTINGS)
    settings = SETTINGS.replace(masked_loss="conditioning_data_dir" in values)
    return TrainingData(scan(datasets, trigger), settings, 3)


def seen(data: TrainingData) -> list[Any]:
    """Everything that a step takes from the batches, and what is held out of them."""
    found: list[Any] = [data.batches_per_epoch, data.uses_per_epoch, [str(picture.path) for picture in data.pictures]]
    for index in range(BATCHES):
        batch = data.batch(index, None)
        tensors = (batch.pixels, batch.masks, batch.loss_weights, batch.original_sizes, batch.target_sizes)
        found += [batch.captions, data.network_multiplier(batch)]
        found += [None if tensor is None else (tuple(tensor.shape), tensor.numpy().tobytes()) for tensor in tensors]
    return found


@pytest.mark.parametrize("key", CASES)
def test_the_key_is_seen(key: str, root: Path) -> None:
    base, value = CASES[key]
    trigger = "zwx" if base.get("image_dir") else ""  # pictures without captions
    assert seen(data_of(root, base, trigger)) != seen(data_of(root, {**base, key: value}, trigger))


def test_the_same_file_gives_the_same_data(root: Path) -> None:
    assert seen(data_of(root, SHUFFLED)) == seen(data_of(root, SHUFFLED))


def test_the_table_holds_every_honoured_key() -> None:
    assert set(CASES) == {row.key for row in table("dataset").values() if row.verdict == HONOURED}
