"""Folders that are named wrongly or hold pictures that cannot be read: what is used, and what is said."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageFile

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.errors import AtelierError
from atelier.config.job import job_from_settings
from atelier.config.settings.schema import Settings
from atelier.data import endings, images
from atelier.data.found.folders import well_named
from atelier.data.scan import Scan, scan, scan_job
from atelier.ui.tab.preview_data import look_at


def pictures(folder: Path, count: int = 2, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number}{suffix}"
        Image.new("RGB", (64, 64), (number, 99, 0)).save(path) if suffix == ".png" else path.write_bytes(b"x")
    return folder


def looked(folder: Path, **keys: object) -> Scan:
    settings = Settings(output_name="x", trigger="sks", train_data_dir=str(folder), **keys)  # type: ignore[arg-type]
    return scan_job(job_from_settings(settings))


def reasons(found: Scan) -> str:
    assert not any(problem.left_out for problem in found.problems), "only remarks about folders"
    return "\n".join(problem.reason for problem in found.problems)


def test_only_wrongly_named_folders(tmp_path: Path) -> None:
    pictures(tmp_path / "dog", 3)
    pictures(tmp_path / "my cat 5", 1)
    with pytest.raises(AtelierError) as caught:
        looked(tmp_path)
    told = str(caught.value)
    assert "dog (3 pictures), my cat 5 (1 picture)" in told and "call them 10_dog, 5_my cat" in told


def test_the_folder_around_the_right_one(tmp_path: Path) -> None:
    pictures(tmp_path / "img" / "10_dog")
    (tmp_path / "log").mkdir()
    with pytest.raises(AtelierError, match=re.escape(f"named like 10_dog in {tmp_path / 'img'}: choose that folder")):
        looked(tmp_path)


@pytest.mark.parametrize("name", ["10", "10_", "10_dog"])
def test_names_that_sd_scripts_takes(tmp_path: Path, name: str) -> None:
    pictures(tmp_path / name)
    found = looked(tmp_path, dataset_repeats=5)
    assert [picture.repeats for picture in found.pictures] == [10, 10] and not found.problems


def test_steps_of_an_epoch_with_a_folder_and_dataset_repeats(tmp_path: Path) -> None:
    pictures(tmp_path / "6_dog")
    settings = Settings(output_name="x", trigger="sks", train_data_dir=str(tmp_path), dataset_repeats=5,
                        max_train_epochs=1)  # fmt: skip
    assert look_at(job_from_settings(settings)).steps == 12


@pytest.mark.parametrize("name", ["0_dog", "-1_dog"])
def test_repeats_of_zero_are_the_reason(tmp_path: Path, name: str) -> None:
    pictures(tmp_path / name)
    with pytest.raises(AtelierError, match=rf"{name}: the folder is not used, since its repeats are 0"):
        looked(tmp_path)


def test_a_subset_of_zero_repeats_is_the_reason(tmp_path: Path) -> None:
    subset = Subset(str(pictures(tmp_path / "dog")), num_repeats=0)
    with pytest.raises(AtelierError, match="since its repeats are 0"):
        scan(DatasetConfig([Dataset(subsets=[subset])]), "sks")


def test_a_wrong_folder_and_loose_pictures_beside_a_right_one(tmp_path: Path) -> None:
    pictures(tmp_path / "10_dog")
    pictures(tmp_path / "cat", 3)
    pictures(tmp_path / ".ipynb_checkpoints", 1)
    pictures(tmp_path, 1)
    (tmp_path / "notes").mkdir()
    told = reasons(looked(tmp_path)).split("\n")
    assert [line.removeprefix(str(tmp_path)) for line in told] == [
        "/cat: 3 pictures are not used, since the folder's name has no number of repeats in front. Call it 10_cat to "
        "train it.",
        ": 1 picture is not used, since the folder has folders named like 10_dog in it. Move it into one of these.",
    ]


def test_folders_below_a_plain_folder(tmp_path: Path) -> None:
    pictures(tmp_path, 2)
    pictures(tmp_path / "more", 4)
    found = looked(tmp_path)
    assert len(found.pictures) == 2 and "the folders in it are not used: more (4 pictures)" in reasons(found)


def test_class_pictures_are_looked_at_too(tmp_path: Path) -> None:
    pictures(tmp_path / "train", 1)
    pictures(tmp_path / "reg" / "1_dog", 1)
    pictures(tmp_path / "reg" / "dogs", 2)
    assert "Call it 10_dogs" in reasons(looked(tmp_path / "train", reg_data_dir=str(tmp_path / "reg")))


def test_an_image_dir_with_pictures_one_level_down(tmp_path: Path) -> None:
    """In a dataset TOML names mean nothing, so none is asked for."""
    pictures(tmp_path / "set" / "dog", 3)
    with pytest.raises(AtelierError, match=r"dog \(3 pictures\): give each of these folders as an image_dir"):
        scan(DatasetConfig([Dataset(subsets=[Subset(str(tmp_path / "set"))])]), "sks")


@pytest.mark.parametrize(
    ("name", "better"), [("dog", "10_dog"), ("10 dog", "10_dog"), ("5-dog", "5_dog"), ("dog_5", "5_dog"),
                         ("dog 0", "10_dog"), ("a1", "10_a1"), ("_dog", "10_dog"), ("1.5_dog", "10_1.5_dog")]
)  # fmt: skip
def test_a_name_that_would_do(name: str, better: str) -> None:
    assert well_named(name) == better


def test_pictures_that_cannot_be_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_plugins(monkeypatch)
    for number, suffix in enumerate((".psd", ".HEIC", ".heic", ".jxl", ".svg", ".CR2")):
        pictures(tmp_path / f"{1 + number % 2}_dog", number + 1, suffix)
    pictures(tmp_path / "1_dog", 1)
    pictures(tmp_path / "2_dog", 1)
    told = reasons(looked(tmp_path))
    assert told.startswith(f"{tmp_path / '1_dog'}, {tmp_path / '2_dog'}: 21 pictures cannot be read here")
    assert "(6 .cr2, 5 .heic, 4 .jxl, 1 .psd, 5 .svg)" in told and "\n" not in told
    assert told.endswith("or install pillow-heif and pillow-jxl-plugin for the WebUI's Python.")


def test_only_pictures_that_cannot_be_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_plugins(monkeypatch)
    pictures(tmp_path, 3, ".heic")
    with pytest.raises(AtelierError, match=r"3 pictures cannot be read here and are left out \(3 \.heic\)"):
        looked(tmp_path)


def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "plugin_formats", lambda: ())


def test_a_plugin_that_is_installed_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pillow-heif: what counts is that it is asked, and that its decoder may then run."""

    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self.fp.seek(8)  # type: ignore[union-attr]
            self._size, self._mode = (64, 64), "RGB"
            self.tile = [ImageFile._Tile("raw", (0, 0, 64, 64), 8, "RGB")] if hasattr(ImageFile, "_Tile") else [
                ("raw", (0, 0, 64, 64), 8, ("RGB", 0, 1))
            ]  # fmt: skip

    def register() -> None:
        monkeypatch.setitem(Image.OPEN, "HEIF", (Heif, lambda head: head.startswith(b"toy heif")))
        monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])

    real: Callable[..., object] = importlib.import_module

    def found(name: str, *more: object) -> object:
        if name == "pillow_heif":
            return SimpleNamespace(register_heif_opener=register)
        if name == "pillow_jxl":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", found)
    for cached in (endings.plugin_formats, images._formats):
        cached.cache_clear()
    try:
        assert {".heic", ".heif", ".hif"} <= set(endings.readable()) and ".jxl" not in endings.readable()
        (tmp_path / "a.HEIC").write_bytes(b"toy heif" + bytes((9, 99, 0)) * 64 * 64)
        found_here = looked(tmp_path)
        assert len(found_here.pictures) == 1 and not found_here.problems
        assert images.open_picture(tmp_path / "a.HEIC").image.getpixel((5, 5)) == (9, 99, 0)
    finally:
        monkeypatch.undo()
        for cached in (endings.plugin_formats, images._formats):
            cached.cache_clear()


def test_masks_without_white_are_told(tmp_path: Path) -> None:
    folder, masks = pictures(tmp_path / "a"), tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (64, 64), 0).save(masks / "0.png")
    Image.new("L", (64, 64), 200).save(masks / "1.png")
    found = looked(folder, masked_loss=True, conditioning_data_dir=str(masks))
    (problem,) = found.problems
    assert problem.path.name == "0.png" and "nothing white in it, so nothing of it is learned" in problem.reason
    assert not problem.left_out and len(found.pictures) == 2
    Image.new("L", (64, 64), 0).save(masks / "1.png", compress_level=0)
    with pytest.raises(AtelierError, match="Nothing is white in the masks of all pictures"):
        looked(folder, masked_loss=True, conditioning_data_dir=str(masks))
    assert not looked(folder, conditioning_data_dir=str(masks)).problems, "masks that are not used"


def test_a_picture_without_mask_is_not_called_left_out(tmp_path: Path) -> None:
    folder, masks = pictures(tmp_path / "a"), pictures(tmp_path / "masks", 1)
    Image.new("L", (64, 64), 255).save(masks / "0.png")
    (problem,) = looked(folder, masked_loss=True, conditioning_data_dir=str(masks)).problems
    assert not problem.left_out and "1.png: it has no mask picture, so all of it is learned." in problem.reason
