"""What is found in folders, and what is said about the rest before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.errors import AtelierError
from atelier.config.settings.schema import Settings
from atelier.data.scan import datasets_for_folder, scan
from atelier.data.summary import bucket_info, dataset_dirs, tag_frequency


def picture(path: Path, size: tuple[int, int] = (64, 64), caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "green").save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def one(folder: Path, **keys: object) -> DatasetConfig:
    return DatasetConfig([Dataset(subsets=[Subset(image_dir=str(folder), **keys)])])  # type: ignore[arg-type]


def test_a_plain_folder(tmp_path: Path) -> None:
    for number in range(1, 4):
        picture(tmp_path / f"p{number}.png", (800, 600), "a cat" if number < 3 else None)
    picture(tmp_path / "wide.jpg", (1000, 500), "a cat, from afar")
    found = scan(datasets_for_folder(tmp_path, Settings()), "sks")
    assert [each.path.name for each in found.pictures] == ["p1.png", "p2.png", "p3.png", "wide.jpg"]
    assert found.captioned == 3 and len(found.training) == 4 and not found.problems
    assert found.buckets == {(576, 448): 3, (704, 320): 1}
    assert found.example_captions(3) == [
        (tmp_path / "p1.png", "sks, a cat"), (tmp_path / "p2.png", "sks, a cat"), (tmp_path / "p3.png", "sks"),
    ]  # fmt: skip


def test_a_parent_of_named_folders(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "10_sks cat" / "a.png", caption="fur, tail")
    picture(tmp_path / "train" / "10_sks cat" / "b.png")
    picture(tmp_path / "train" / "2_sks dog" / "c.png", caption="Fur")
    picture(tmp_path / "reg" / "1_cat" / "d.png", (64, 32))
    settings = Settings(reg_data_dir=str(tmp_path / "reg"))
    found = scan(datasets_for_folder(tmp_path / "train", settings), "sks")
    assert [(each.path.name, each.repeats, each.is_reg) for each in found.pictures] == [
        ("a.png", 10, False), ("b.png", 10, False), ("c.png", 2, False), ("d.png", 1, True),
    ]  # fmt: skip
    assert [(each.caption, each.caption_source) for each in found.pictures] == [
        ("fur, tail", "file"), ("sks cat", "class"), ("Fur", "file"), ("cat", "class"),
    ]  # fmt: skip
    assert found.captioned == 2
    assert dataset_dirs(found.training) == {
        "10_sks cat": {"n_repeats": 10, "img_count": 2}, "2_sks dog": {"n_repeats": 2, "img_count": 1},
    }  # fmt: skip
    assert dataset_dirs(found.regularisation) == {"1_cat": {"n_repeats": 1, "img_count": 1}}
    assert tag_frequency(found) == {"10_sks cat": {"fur": 1, "tail": 1, "sks cat": 1}, "2_sks dog": {"fur": 1}}
    info = bucket_info(found)
    assert info["buckets"] == {
        "0": {"resolution": [512, 512], "count": 22}, "1": {"resolution": [704, 320], "count": 1},
    }  # fmt: skip
    assert info["mean_img_ar_error"] == pytest.approx(0.2 / 4)


def test_unreadable_pictures_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    cut = picture(tmp_path / "cut.png", (300, 300))
    cut.write_bytes(cut.read_bytes()[:-30])
    (tmp_path / "text.jpg").write_text("hello")
    found = scan(one(tmp_path), "sks")
    assert [each.path for each in found.pictures] == [good]
    assert {problem.path.name for problem in found.problems} == {"empty.png", "cut.png", "text.jpg"}
    assert all(problem.path.name in problem.reason and "remove it" in problem.reason for problem in found.problems)


def test_too_small_without_enlarging(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    picture(tmp_path / "tiny.png", (5, 5))
    datasets = one(tmp_path)
    datasets.datasets[0].bucket_no_upscale = True
    found = scan(datasets, "sks")
    assert len(found.pictures) == 1 and "tiny.png: with 5 x 5 pixels" in found.problems[0].reason


def test_what_stops_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="no such folder"):
        scan(one(tmp_path / "nowhere"), "sks")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AtelierError, match="There are no pictures in .*empty"):
        scan(one(tmp_path / "empty"), "sks")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"x")
    with pytest.raises(AtelierError, match=r"can be read:\n.*a\.png"):
        scan(one(tmp_path / "bad"), "sks")
    picture(tmp_path / "bare" / "IMG_1.png", caption=" \n")
    with pytest.raises(AtelierError, match="no trigger word"):
        scan(one(tmp_path / "bare", caption_from_name=True), "  ")
    assert scan(one(tmp_path / "bare"), "sks").captioned == 0
    with pytest.raises(AtelierError, match="no pictures"):
        scan(one(tmp_path / "bare", is_reg=True), "sks")
    with pytest.raises(AtelierError, match="image_dir"):
        scan(one(Path()).__class__([Dataset(subsets=[Subset()])]), "sks")


def test_subsets_that_are_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "a.png")
    (tmp_path / "b").mkdir()
    given = (("a", 1), ("a", 3), ("b", 1), ("b", 0))
    subsets = [Subset(image_dir=str(tmp_path / name), num_repeats=repeats) for name, repeats in given]
    found = scan(DatasetConfig([Dataset(subsets=subsets)]), "sks")
    assert len(found.pictures) == 1
    assert [problem.reason.split(": ")[1] for problem in found.problems] == [
        "the folder is named twice but used only once.", "there are no pictures in this folder.",
        "the folder is not used, since its repeats are 0.",
    ]  # fmt: skip


def test_masks_and_metadata(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "a.png")
    picture(tmp_path / "pictures" / "b.png")
    mask = picture(tmp_path / "masks" / "a.png")
    Image.new("L", (64, 64), 255).save(mask)
    (tmp_path / "meta.json").write_text('{"b": {"tags": "one, two"}}')
    keys = {"conditioning_data_dir": str(tmp_path / "masks"), "metadata_file": str(tmp_path / "meta.json")}
    found = scan(one(tmp_path / "pictures", **keys), "sks")
    assert [each.mask for each in found.pictures] == [mask, None]
    assert [each.caption for each in found.pictures] == ["", "one, two"] and found.captioned == 1
    assert "b.png: it has no mask" in found.problems[0].reason
    (tmp_path / "meta.json").write_text("[" * 100_000)
    with pytest.raises(AtelierError, match="metadata_file cannot be read"):
        scan(one(tmp_path / "pictures", **keys), "sks")


def test_many_folders_without_pictures_are_counted(tmp_path: Path) -> None:
    folders = [tmp_path / f"folder-{number}" for number in range(400)]
    for folder in folders:
        folder.mkdir()
    datasets = DatasetConfig([Dataset(subsets=[Subset(image_dir=str(folder)) for folder in folders])])
    with pytest.raises(AtelierError, match="folder-2 and 397 more") as caught:
        scan(datasets, "sks")
    assert len(str(caught.value)) < 2000
