"""The code is clean under ruff and mypy, files stay short, and nothing committed names a machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 400


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True, timeout=600)


def tracked(root: Path, *patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [root / line for line in listing if line and (root / line).exists()]


def test_ruff() -> None:
    pytest.importorskip("ruff")
    root = Path(__file__).resolve().parents[2]
    done = run(root, "ruff", "check", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_types(root: Path) -> None:
    pytest.importorskip("mypy")
    done = run(root, "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_are_short(root: Path) -> None:
    long = {
        str(path.relative_to(root)): count
        for path in tracked(root, "*.py", "*.js")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LIMIT
    }
    assert not long


def test_no_path_of_one_machine(root: Path) -> None:
    home = re.compile(r"/(root|home/[a-z]+|work|Users/[A-Za-z]+)/[\w.]")
    wrong = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in tracked(root, "*.py", "*.js", "*.md", "*.toml", "*.txt", "*.json", "*.css", ".ci/run")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if home.search(line) and path.name != "test_style.py"
    ]
    assert not wrong, "\n".join(wrong)
