"""Files dropped on the page: copied once, kept apart, bounded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.ui.gradio_compat import DroppedFile, dropped_files
from atelier.ui.server import uploads
from atelier.ui.server.uploads import keep_files


def dropped(folder: Path, name: str, content: bytes = b"x", original: str | None = None) -> DroppedFile:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return DroppedFile(path, original or name)


def test_pictures_and_captions_are_copied_and_the_rest_is_named(tmp_path: Path) -> None:
    files = [
        dropped(tmp_path / "a", "1.png", b"one"),
        dropped(tmp_path / "a", "1.txt", b"words"),
        dropped(tmp_path / "b", "1.PNG", b"two"),
        dropped(tmp_path / "b", "setup.exe", b"no"),
        dropped(tmp_path / "b", "layers.PSD", b"8BPS"),
    ]
    kept = keep_files(files, tmp_path / "runs" / "uploads")
    assert kept.folder.parent == tmp_path / "runs" / "uploads"
    assert sorted(path.name for path in kept.folder.iterdir()) == ["1-2.PNG", "1.png", "1.txt"]
    assert (kept.folder / "1-2.PNG").read_bytes() == b"two"
    assert kept.left_out == [
        "setup.exe is neither a picture nor a caption file. It is not used.",
        "layers.PSD cannot be read here. Save it as PNG or JPEG, and drop that.",
    ]


def test_the_same_files_again_give_the_same_folder(tmp_path: Path) -> None:
    first = keep_files([dropped(tmp_path / "a", "1.png", b"one")], tmp_path / "up")
    again = keep_files([dropped(tmp_path / "z", "1.png", b"one")], tmp_path / "up")
    other = keep_files([dropped(tmp_path / "z", "1.png", b"ONE")], tmp_path / "up")
    assert again.folder == first.folder != other.folder
    assert len(list((tmp_path / "up").iterdir())) == 2


@pytest.mark.parametrize("name", ["../../evil.png", "..\\evil.png", "a/b/evil.png", "ev:il?.png", "con\x00trol.png"])
def test_names_never_leave_the_folder(tmp_path: Path, name: str) -> None:
    kept = keep_files([dropped(tmp_path / "a", "plain.png", b"one", original=name)], tmp_path / "up" / "in")
    (only,) = kept.folder.iterdir()
    assert only.parent == kept.folder and only.suffix == ".png"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "up"}


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = dropped(tmp_path / "a", "1.png", b"12345"), dropped(tmp_path / "a", "2.png", b"1")
    monkeypatch.setattr(uploads, "LARGEST_FILE", 3)
    assert keep_files([one, two], tmp_path / "up").left_out == ["1.png is larger than 0 MB. It is not used."]
    monkeypatch.setattr(uploads, "MOST_FILES", 1)
    with pytest.raises(AtelierError, match="2 files were dropped; the limit is 1"):
        keep_files([one, two], tmp_path / "up")
    with pytest.raises(AtelierError, match="no picture among"):
        keep_files([dropped(tmp_path / "a", "1.txt")], tmp_path / "up")


def test_the_folder_is_named_after_what_is_in_it_alone(tmp_path: Path) -> None:
    """Neither the order of the files nor where they come from counts; their names do, as captions go by them."""
    one, two = dropped(tmp_path / "a", "1.png", b"one"), dropped(tmp_path / "a", "2.png", b"two")
    folder = keep_files([one, two], tmp_path / "up").folder
    elsewhere = dropped(tmp_path / "b", "1.png", b"one")
    for again in ([two, one], [elsewhere, two]):
        assert keep_files(again, tmp_path / "up").folder == folder
    renamed = [dropped(tmp_path / "a", "2.png", b"two", "3.png"), one]
    swapped = [dropped(tmp_path / "c", "1.png", b"two"), dropped(tmp_path / "c", "2.png", b"one")]
    for other in (renamed, swapped, [one]):
        assert keep_files(other, tmp_path / "up").folder != folder
    assert len(list((tmp_path / "up").iterdir())) == 4


def test_a_file_that_did_not_arrive_is_named(tmp_path: Path) -> None:
    there, gone = dropped(tmp_path / "a", "1.png"), dropped(tmp_path / "a", "2.png")
    gone.path.unlink()
    kept = keep_files([gone, there], tmp_path / "up")
    assert [path.name for path in kept.folder.iterdir()] == ["1.png"]
    assert len(kept.left_out) == 1 and kept.left_out[0].startswith("2.png was not uploaded")


def test_a_file_of_just_the_largest_size_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST_FILE", 5)
    monkeypatch.setattr(uploads, "MOST_FILES", 2)
    files = [dropped(tmp_path / "a", "1.png", b"12345"), dropped(tmp_path / "a", "2.png", b"123456")]
    kept = keep_files(files, tmp_path / "up")
    assert [path.name for path in kept.folder.iterdir()] == ["1.png"]
    assert [words.split()[0] for words in kept.left_out] == ["2.png"]


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No single one of them is too large, and what is left out does not count."""
    files = [dropped(tmp_path / "a", f"{number}.png", b"12345") for number in range(3)]
    monkeypatch.setattr(uploads, "LARGEST_TOTAL", 14)
    with pytest.raises(AtelierError, match="The dropped files have 0.0 GB"):
        keep_files(files, tmp_path / "up")
    assert not (tmp_path / "up").exists()
    other = dropped(tmp_path / "a", "large.exe", b"x" * 100)
    assert len(list(keep_files([*files[:2], other], tmp_path / "up").folder.iterdir())) == 2
    monkeypatch.setattr(uploads, "LARGEST_TOTAL", 15)
    assert len(list(keep_files(files, tmp_path / "up").folder.iterdir())) == 3


def test_files_dropped_again_count_as_used_now(tmp_path: Path) -> None:
    """Else the pictures of a run that is about to start could be the oldest, and go."""
    files = [dropped(tmp_path / "a", "1.png")]
    before = time.time() - 5
    folder = keep_files(files, tmp_path / "up").folder
    assert folder.stat().st_mtime > before
    os.utime(folder, (1000.0, 1000.0))
    assert keep_files(files, tmp_path / "up").folder == folder
    assert folder.stat().st_mtime > before


def test_what_the_file_control_of_each_gradio_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))

    class OldFile:
        name = str(tmp_path / "cat0abc.png")
        orig_name = str(tmp_path / "gradio" / "0abc" / "cat.png")

    class NewFile(str):
        name = str(tmp_path / "dog.png")

    assert dropped_files(None) == []
    assert dropped_files([OldFile()]) == [DroppedFile(tmp_path / "cat0abc.png", "cat.png")]
    assert dropped_files(NewFile(NewFile.name)) == [DroppedFile(tmp_path / "dog.png", "dog.png")]


@pytest.mark.parametrize(
    "named", ["/etc/passwd", "params.txt", "../params.txt", "{gradio}/../secret.txt", "{gradio}", "a\0b", "C:\\x.txt"]
)
def test_a_file_of_the_server_that_was_only_named(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio 3 has copied it by then, to where uploads lie."""
    gradio = tmp_path / "gradio"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(gradio))

    class Copied:
        name = str(gradio / "0abc" / "secret.txt")
        orig_name = named.format(gradio=gradio)

    assert dropped_files([Copied()]) == []
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    assert dropped_files([Copied()]) == []


def test_a_picture_can_be_opened_after_copying(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "p.png")
    kept = keep_files([DroppedFile(tmp_path / "p.png", "p.png")], tmp_path / "up")
    with Image.open(kept.folder / "p.png") as image:
        assert image.size == (8, 8)


def test_the_same_files_copied_by_many_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    source = tmp_path / "source"
    source.mkdir()
    files = []
    for number in range(6):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(source / f"{number}.png")
        files.append(DroppedFile(source / f"{number}.png", f"{number}.png"))
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: keep_files(files, tmp_path / "kept"), range(24)))
    assert len({found.folder for found in kept}) == 1
    assert len(list(kept[0].folder.iterdir())) == 6
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [kept[0].folder.name]
