"""The fuzzer finds nothing in a short run, and what is planted. A long run: tests/hostile/fuzz.py --cases 20000."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atelier.config.errors import AtelierError
from tests.hostile.fuzz import Fuzzed
from tests.hostile.fuzz_targets import Target

CASES = 150


@pytest.mark.slow
def test_a_short_run_finds_nothing(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(root / "tests" / "hostile" / "fuzz.py"), "--cases", str(CASES)]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 20 and all(line.endswith(" 0 faults") for line in lines)
    assert not list(tmp_path.iterdir())


def fuzzed(tmp_path: Path, look: object) -> Fuzzed:
    folders = [tmp_path / "in", tmp_path / "out"]
    for folder in folders:
        folder.mkdir()
    return Fuzzed(Target("planted", ".txt", [b"a = 1\nb = 22\n"], look), 1, *folders)  # type: ignore[arg-type]


def test_it_finds_an_error_that_is_no_sentence(tmp_path: Path) -> None:
    def look(path: Path) -> int:
        return int(path.read_bytes().split(b"=")[1].split()[0])

    found = fuzzed(tmp_path, look)
    found.run(200)
    assert any("IndexError" in fault for fault in found.faults)
    assert any("ValueError" in fault for fault in found.faults)
    assert len(list((tmp_path / "out").iterdir())) == len(found.faults)


def test_it_finds_a_file_that_was_left(tmp_path: Path) -> None:
    def look(path: Path) -> None:
        if b"b" not in path.read_bytes():
            path.with_name("left").touch()

    found = fuzzed(tmp_path, look)
    found.run(100)
    assert found.faults and "left ['left']" in found.faults[0]


def test_it_finds_an_empty_sentence(tmp_path: Path) -> None:
    def look(path: Path) -> None:
        raise AtelierError("" if len(path.read_bytes()) > 13 else "A sentence.")

    found = fuzzed(tmp_path, look)
    found.run(100)
    assert found.faults and all("no sentence" in fault for fault in found.faults)


@pytest.mark.slow
def test_a_hang_ends_it_and_leaves_the_input(tmp_path: Path, root: Path) -> None:
    script = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from pathlib import Path
from tests.hostile import fuzz
from tests.hostile.fuzz_targets import Target
fuzz.LONGEST = 0.2
def look(path):
    while True:
        pass
here = Path(sys.argv[3])
fuzz.Fuzzed(Target("hang", ".txt", [b"x"], look), 1, here, here).run(1)
"""
    command = [sys.executable, "-c", script, str(root / "tests"), str(root / "lib"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "in look" in done.stderr
    assert (tmp_path / "any.txt").read_bytes() == b"x"
