"""Dataset TOML: who inherits what from whom, what each level takes, and folders named REPEATS_CAPTION."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from atelier.config.datasets import Subset, datasets_from_folders, repeats_and_class
from atelier.config.errors import SettingsError
from atelier.config.imports.loading import load_job
from atelier.config.kohya.dataset_toml import read_datasets
from atelier.config.kohya.document import parse_document
from atelier.config.settings.schema import Settings


def read(text: str, **settings: object):  # type: ignore[no-untyped-def]
    return read_datasets(parse_document(text, "d.toml"), Settings(**settings))  # type: ignore[arg-type]


def problems(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize("levels", list(itertools.product([False, True], repeat=4)))
def test_the_nearest_level_wins(levels: tuple[bool, ...]) -> None:
    """Subset, then dataset, then [general], then the training settings, then the default."""
    at_subset, at_dataset, at_general, at_settings = levels
    text = "[general]\n" + ("keep_tokens = 3\n" if at_general else "")
    text += "[[datasets]]\n" + ("keep_tokens = 2\n" if at_dataset else "")
    text += "[[datasets.subsets]]\nimage_dir = 'x'\n" + ("keep_tokens = 1\n" if at_subset else "")
    config = read(text, **({"keep_tokens": 4} if at_settings else {}))
    expected = 1 if at_subset else 2 if at_dataset else 3 if at_general else 4 if at_settings else 0
    assert config.subsets[0].keep_tokens == expected


def test_false_and_zero_and_empty_are_values() -> None:
    text = """
    [general]
    shuffle_caption = true
    keep_tokens = 2
    caption_prefix = "a photo,"
    [[datasets]]
      [[datasets.subsets]]
      image_dir = 'x'
      shuffle_caption = false
      keep_tokens = 0
      caption_prefix = ""
    """
    subset = read(text).subsets[0]
    assert (subset.shuffle_caption, subset.keep_tokens, subset.caption_prefix) == (False, 0, None)


def test_datasets_differ_from_one_another() -> None:
    text = """
    [general]
    enable_bucket = true
    [[datasets]]
    resolution = 768
    batch_size = 4
      [[datasets.subsets]]
      image_dir = 'a'
      num_repeats = 5
      [[datasets.subsets]]
      image_dir = 'b'
      is_reg = true
      class_tokens = "cat"
    [[datasets]]
    resolution = [512, 640]
    enable_bucket = false
      [[datasets.subsets]]
      image_dir = 'c'
    """
    first, second = read(text, train_batch_size=2).datasets
    assert (first.resolution, first.batch_size, first.enable_bucket) == ((768, 768), 4, True)
    assert (second.resolution, second.batch_size, second.enable_bucket) == ((512, 640), 2, False)
    assert [(subset.num_repeats, subset.is_reg) for subset in first.subsets] == [(5, False), (1, True)]
    assert first.subsets[1].class_tokens == "cat"


def test_a_subset_repeated_never_is_kept_for_the_scan_to_tell() -> None:
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\nnum_repeats=0\n[[datasets.subsets]]\nimage_dir='b'"
    assert [(subset.image_dir, subset.num_repeats) for subset in read(text).subsets] == [("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[general]\nkeep_tokens = 1", "at least one [[datasets]] is needed"),
        ("[[datasets]]\nresolution = 512", "needs at least one [[datasets.subsets]]"),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 1", "a subset needs image_dir"),
        ("[[datasets]]\nkeep_tokns = 1\n[[datasets.subsets]]\nimage_dir='a'", "did you mean keep_tokens?"),
        ("[[datasets]]\ntrain_batch_size = 1\n[[datasets.subsets]]\nimage_dir='a'", "it is called batch_size"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\ndataset_repeats = 2", "it is called num_repeats"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\nbatch_size = 2", "belongs in [[datasets]]"),
        ("[general]\nis_reg = true\n[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'", "belongs in [[datasets.subs"),
        ("[[datasets]]\nresolution = 'big'\n[[datasets.subsets]]\nimage_dir='a'", "[width, height]"),
        ("[[datasets]]\nresolution = [1, 2, 3]\n[[datasets.subsets]]\nimage_dir='a'", "[width, height]"),
        ("[[datasets]]\nbatch_size = 0\n[[datasets.subsets]]\nimage_dir='a'", "at least 1"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\ncaption_dropout_rate = 2", "at most 1"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\nflip_aug = 'maybe'", "true or false"),
        ("learning_rate = 1\n[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'", "only [general] and [[datasets]]"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\n[[datasets.subsets]]\nimage_dir='b'\nmetadata_file='m'",
         "either all subsets of a dataset have it or none"),
        ("datasets = 5", "at least one [[datasets]] is needed"),
    ],
)  # fmt: skip
def test_wrong_files_are_told_with_the_line(text: str, sentence: str) -> None:
    assert sentence in problems(text)
    assert problems(text).startswith("d.toml")


def test_lines_tell_equal_keys_apart() -> None:
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\nnum_repeats=1\n[[datasets.subsets]]\nimage_dir='b'\n"
    text += "num_repeats='x'"
    assert "line 7: num_repeats is 'x'" in problems(text)


def folder(parent: Path, *names: str) -> str:
    for name in names:
        (parent / name).mkdir(parents=True)
    return str(parent)


def test_folder_names_tell_repeats_and_class(tmp_path: Path) -> None:
    train = folder(tmp_path / "t", "10_sks cat", "3_dog", "notes", "x_1")
    reg = folder(tmp_path / "r", "1_cat")
    config = datasets_from_folders(Settings(train_data_dir=train, reg_data_dir=reg, dataset_repeats=2))
    found = [(Path(item.image_dir).name, item.num_repeats, item.class_tokens, item.is_reg) for item in config.subsets]
    assert found == [("10_sks cat", 10, "sks cat", False), ("3_dog", 3, "dog", False), ("1_cat", 1, "cat", True)]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("10_dog", (10, "dog")), ("10", (10, None)), ("10_", (10, None)), ("010_a dog", (10, "a dog")),
        ("3_a_b", (3, "a_b")), ("0_dog", (0, "dog")), ("-2_dog", (0, "dog")), ("dog", None), ("dog_10", None),
        ("10-dog", None), ("10 dog", None), ("x10_dog", None), ("", None), ("_dog", None), ("9" * 5000 + "_x", None),
    ],
)  # fmt: skip
def test_a_name_is_read_as_sd_scripts_reads_it(name: str, told: tuple[int, str | None] | None) -> None:
    assert repeats_and_class(name) == told


def test_repeats_of_the_settings_hold_where_the_folder_has_none(tmp_path: Path) -> None:
    settings = Settings(train_data_dir=folder(tmp_path, "other"), dataset_repeats=5)
    assert [subset.num_repeats for subset in datasets_from_folders(settings).subsets] == [5]


def test_a_missing_folder_is_told_under_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="reg_data_dir"):
        datasets_from_folders(Settings(train_data_dir=folder(tmp_path, "a"), reg_data_dir=str(tmp_path / "none")))


def test_a_folder_without_such_folders_is_one_itself(tmp_path: Path) -> None:
    config = datasets_from_folders(Settings(train_data_dir=folder(tmp_path, "other"), shuffle_caption=True))
    assert config.subsets == [Subset(image_dir=str(tmp_path), shuffle_caption=True)]


def test_in_json_makes_a_fine_tuning_subset(tmp_path: Path) -> None:
    config = datasets_from_folders(Settings(train_data_dir=folder(tmp_path, "1_x"), in_json="meta.json"))
    assert [(item.image_dir, item.metadata_file) for item in config.subsets] == [(str(tmp_path), "meta.json")]


@pytest.mark.parametrize("key", ["image_dir", "metadata_file", "conditioning_data_dir"])
def test_what_exists_as_written_wins_over_what_lies_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """As for sd-scripts, a relative path starts where the program was started; the file's own folder comes second."""
    here, there = tmp_path / "here", tmp_path / "there"
    for parent in (here, there):
        folder(parent, "pictures", "both")
    folder(there, "beside")
    monkeypatch.chdir(here)
    for name, expected in (("both", "both"), ("beside", str(there / "beside")), ("nowhere", "nowhere")):
        lines = {"image_dir": "pictures", key: name}
        text = "".join(f"{key} = '{value}'\n" for key, value in lines.items())
        (there / "d.toml").write_text("[[datasets]]\n[[datasets.subsets]]\n" + text)
        (there / "a.toml").write_text("dataset_config = 'd.toml'")
        (subset,) = load_job(there / "a.toml").datasets.subsets
        assert getattr(subset, key) == expected


def test_a_dataset_file_that_exists_as_written_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the one in the folder of the file that names it, under its path, and at last under its name alone."""
    here, there = tmp_path / "here", tmp_path / "there"
    folder(here, "sub")
    folder(there, "sub")
    (there / "a.toml").write_text("dataset_config = 'sub/d.toml'")
    monkeypatch.chdir(here)
    for place in (there / "d.toml", there / "sub" / "d.toml", here / "sub" / "d.toml"):
        place.write_text(f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{place.as_posix()}'\n")
        (subset,) = load_job(there / "a.toml").datasets.subsets
        assert subset.image_dir == place.as_posix(), "the newest file lies where it is looked for first"


def test_a_dataset_file_replaces_the_folders(tmp_path: Path) -> None:
    folder(tmp_path, "pictures", "1_old")
    (tmp_path / "d.toml").write_text("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'pictures'\n")
    (tmp_path / "a.toml").write_text(
        f"dataset_config = 'd.toml'\ntrain_data_dir = '{tmp_path.as_posix()}'\nflip_aug = true\nresolution = 256"
    )
    config = load_job(tmp_path / "a.toml").datasets
    assert [item.image_dir for item in config.subsets] == [str(tmp_path / "pictures")]
    assert config.subsets[0].flip_aug is True and config.datasets[0].resolution == (256, 256)
