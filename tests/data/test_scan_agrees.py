"""The same pictures by a folder named 10_dog, by a dataset file, in the tab and before a run: all agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.config.imports.loading import load_job
from atelier.config.job import JobConfig
from atelier.data import endings
from atelier.data.scan import scan_job
from atelier.ui.tab.preview_data import look_at


@pytest.fixture
def dogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder 10_dog with all that needs to be told."""
    monkeypatch.setattr(endings, "plugin_formats", lambda: ())
    folder = tmp_path / "10_dog"
    folder.mkdir()
    for name in ("a.png", "b.tif", "c.jfif"):
        Image.new("RGB", (512, 512), "green").save(folder / name, format={"c": "JPEG"}.get(name[0]))
    (folder / "a.txt").write_bytes("白色背景上的红色圆形".encode("gbk"))
    (folder / "b.txt").write_bytes(b"caf\xe9")
    (folder / "c.txt").write_bytes("красный круг на белом фоне".encode("cp1251"))
    (folder / "d.heic").write_bytes(b"x")
    (folder / "e.png").write_bytes(b"x")
    return folder


def by_folder(dogs: Path) -> JobConfig:
    path = dogs.parent / "folder.toml"
    path.write_text(f"output_name = 'x'\ntrain_data_dir = '{dogs.parent.as_posix()}'\ndataset_repeats = 3\n")
    return load_job(path)


def by_dataset_file(dogs: Path) -> JobConfig:
    text = f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{dogs.as_posix()}'\nnum_repeats = 10\n"
    (dogs.parent / "data.toml").write_text(text)
    path = dogs.parent / "training.toml"
    path.write_text("output_name = 'x'\ndataset_config = 'data.toml'\ncaption_extension = '.txt'\n")
    return load_job(path)


def test_all_ways_agree(dogs: Path) -> None:
    jobs = [by_folder(dogs), by_dataset_file(dogs)]
    first, second = map(scan_job, jobs)
    assert [(picture.path.name, picture.repeats, picture.caption) for picture in first.pictures] == [
        ("a.png", 10, "白色背景上的红色圆形"), ("b.tif", 10, "café"), ("c.jfif", 10, "красный круг на белом фоне"),
    ]  # fmt: skip
    assert [(p.path, p.repeats, p.caption) for p in second.pictures] == [
        (p.path, p.repeats, p.caption) for p in first.pictures
    ]
    reasons = [problem.reason for problem in first.problems]
    assert [problem.reason for problem in second.problems] == reasons
    assert [word in "\n".join(reasons) for word in ("a.txt", "b.txt", "c.txt", "1 .heic", "e.png")] == [
        True, False, True, True, True,
    ]  # fmt: skip
    for job in jobs:
        shown = look_at(job)
        assert shown.problems == [reason.replace(f"{dogs}/", "") for reason in reasons]
        assert (shown.count, shown.captioned) == (3, 3)


@pytest.mark.parametrize("way", [by_folder, by_dataset_file])
def test_all_ways_refuse_the_same(dogs: Path, way: object) -> None:
    for path in dogs.iterdir():
        path.unlink()
    job = by_folder(dogs) if way is by_folder else by_dataset_file(dogs)
    for look in (scan_job, look_at):
        with pytest.raises(AtelierError, match="There are no pictures in .*10_dog"):
            look(job)
