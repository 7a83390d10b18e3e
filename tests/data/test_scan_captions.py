"""Caption files that are not in UTF-8, through a scan: the captions of the pictures, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.data.scan import Scan, scan


def scanned(folder: Path, **keys: object) -> Scan:
    return scan(DatasetConfig([Dataset(subsets=[Subset(str(folder), **keys)])]), "sks")  # type: ignore[arg-type]


def picture(folder: Path, name: str, caption: bytes) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "green").save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_bytes(caption)


@pytest.mark.parametrize(
    ("encoding", "named", "text"),
    [
        ("gbk", "GBK", "白色背景上的红色圆形"), ("big5", "Big5", "白色背景上的紅色圓形"),
        ("shift_jis", "Shift-JIS", "白い背景の赤い丸"), ("euc_kr", "EUC-KR", "하얀 배경 위의 빨간 원"),
        ("cp1251", "Windows-1251", "красный круг на белом фоне"),
    ],
)  # fmt: skip
def test_a_caption_in_an_old_encoding_is_read_and_the_file_is_named(
    tmp_path: Path, encoding: str, named: str, text: str
) -> None:
    picture(tmp_path, "one", text.encode(encoding))
    picture(tmp_path, "two", b"a red circle")
    found = scanned(tmp_path)
    assert [each.caption for each in found.pictures] == [text, "a red circle"]
    (problem,) = found.problems
    assert not problem.left_out and f"one.txt: not in UTF-8; read as {named}" in problem.reason
    assert "two.txt" not in problem.reason


def test_a_folder_decides_for_a_caption_that_is_too_short(tmp_path: Path) -> None:
    texts = ["陶瓷茶壶", "白色背景上的红色圆形", "一只橘猫坐在窗台上，阳光照进来"]
    for number, text in enumerate(texts):
        picture(tmp_path, str(number), text.encode("gbk"))
    found = scanned(tmp_path)
    assert [each.caption for each in found.pictures] == texts
    assert len(found.problems) == 1 and "0.txt, 1.txt, 2.txt" in found.problems[0].reason


def test_an_unclear_caption_is_named_and_a_western_one_is_not(tmp_path: Path) -> None:
    picture(tmp_path, "dog", "狗".encode("gbk"))
    picture(tmp_path, "cafe", "a circle ’ red, café".encode("cp1252"))
    found = scanned(tmp_path)
    assert found.pictures[0].caption == "a circle ’ red, café"
    (problem,) = found.problems
    assert "dog.txt" in problem.reason and "may be wrong" in problem.reason and "cafe.txt" not in problem.reason


def test_of_many_files_a_few_are_named(tmp_path: Path) -> None:
    for number in range(9):
        picture(tmp_path, str(number), "красный круг на белом фоне".encode("cp1251"))
    (problem,) = scanned(tmp_path).problems
    assert "0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more" in problem.reason


def test_all_lines_are_read_for_wildcards(tmp_path: Path) -> None:
    picture(tmp_path, "a", "красный круг\r\nсиний круг на белом".encode("cp1251"))
    assert scanned(tmp_path, enable_wildcard=True).pictures[0].caption == "красный круг\nсиний круг на белом"


def test_a_metadata_file_is_read_the_same_way(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    text = '{"a": {"caption": "白色背景上的红色圆形"}}'
    (tmp_path / "meta.json").write_bytes(text.encode("gbk"))
    found = scanned(tmp_path, metadata_file=str(tmp_path / "meta.json"))
    assert found.pictures[0].caption == "白色背景上的红色圆形"
    assert "meta.json: not in UTF-8; read as GBK" in found.problems[0].reason
