"""Files that are no files, or far too large: every reader says so, and none waits for an end that does not come."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.errors import AtelierError
from atelier.config.files.whole_file import SETTINGS, read_whole
from atelier.config.imports.loading import load_job
from atelier.config.sample_prompts import read_sample_prompts
from atelier.data.captions import read_metadata
from atelier.data.scan import scan

READERS: dict[str, Callable[[Path], Any]] = {
    "x.toml": load_job,
    "prompts.txt": read_sample_prompts,
    "prompts.json": read_sample_prompts,
    "captions.json": read_metadata,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_no_file(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(AtelierError, match="is a pipe or a device"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_a_missing_and_a_huge_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="cannot be read|no file|does not exist"):
        READERS[name](tmp_path / name)
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)  # without taking any room
    with pytest.raises(AtelierError, match="too large"):
        READERS[name](tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(AtelierError, match="folder"):
        READERS[name](tmp_path / name)


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    assert len(read_whole(tmp_path / "x", 100)) == 100 and SETTINGS > 1_000_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_among_the_pictures_are_passed_over(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    for name in ("b.png", "a.txt"):
        os.mkfifo(tmp_path / name)
    found = scan(DatasetConfig([Dataset(resolution=(64, 64), subsets=[Subset(str(tmp_path))])]), "sks")
    assert [picture.path.name for picture in found.pictures] == ["a.png"]
