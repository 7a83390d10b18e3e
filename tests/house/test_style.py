"""The code is clean under ruff and mypy, files and lines stay short, and nothing committed names a machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from atelier.cli import lint_command

LIMIT = 400
COLUMNS = 120


def tracked(root: Path, *patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [root / line for line in listing if line and (root / line).exists()]


@pytest.mark.parametrize("words", lint_command.CHECKS, ids=" ".join)
def test_lint_format_and_types(words: tuple[str, ...]) -> None:
    done = lint_command.check(words)
    assert done.returncode == 0, done.stdout


def test_a_tool_that_is_missing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lint_command, "CHECKS", (("no_such_tool",), ("this",)))
    assert lint_command.run([]) == 1
    told = capsys.readouterr().out
    assert "No module named no_such_tool" in told and "this: The Zen of Python" in told
    monkeypatch.setattr(lint_command, "CHECKS", (("this",),))
    assert lint_command.run([]) == 0


def test_files_are_short(root: Path) -> None:
    long = {
        str(path.relative_to(root)): count
        for path in tracked(root, "*.py", "*.js")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LIMIT
    }
    assert not long


def test_lines_are_short(root: Path) -> None:
    """ruff holds those of Python files."""
    long = [
        f"{path.relative_to(root)}:{number}: {len(line)}"
        for path in tracked(root, "*.js", "*.css")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not long, "\n".join(long)


def test_no_path_of_one_machine(root: Path) -> None:
    """Jane is nobody: tests of reports write of her folders."""
    home = re.compile(r"/(root|home/(?!jane)[a-z]+|work|Users/[A-Za-z]+)/[\w.]")
    wrong = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in tracked(root, "*.py", "*.js", "*.md", "*.toml", "*.txt", "*.json", "*.css", ".ci/run")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if home.search(line) and path.name != "test_style.py"
    ]
    assert not wrong, "\n".join(wrong)
