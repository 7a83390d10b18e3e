"""run.py: which tests run with AUTOMATIC1111's libraries, and where they cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def starter(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root))
    import run

    return run


def test_the_tests_for_a1111_are_there(starter: ModuleType, root: Path) -> None:
    for name in starter.A1111_TESTS:
        assert (root / "tests" / name.split("::")[0]).is_file(), name


def test_a_python_without_wheels_is_told(
    starter: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(starter, "A1111_PYTHONS", ())
    monkeypatch.setattr(starter, "make_environment", lambda *_: pytest.fail("nothing is installed"))
    assert starter.run_with_a1111({}) == 0
    assert "Not run with AUTOMATIC1111's libraries" in capsys.readouterr().out


@pytest.mark.parametrize(("first", "second", "status"), [(0, 0, 0), (1, 0, 1), (0, 3, 3)])
def test_both_parts_decide(
    first: int, second: int, status: int, starter: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole suite is followed by the part with other libraries, each in its own environment."""
    started: list[list[str]] = []

    def call(command: list[str], env: Any) -> int:
        started.append(command)
        return first if len(started) == 1 else second

    monkeypatch.setattr(starter, "A1111_PYTHONS", (sys.version_info[:2],))
    monkeypatch.setattr(starter, "make_environment", lambda requirements, *_: Path(requirements.stem))
    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(sys, "argv", ["run.py", "test"])
    assert starter.main() == status
    assert [command[0] for command in started] == ["test", "a1111"]


def test_the_whole_runs_in_processes_and_one_file_does_not() -> None:
    from atelier.cli.test_command import MOST_PROCESSES, ROOT, words

    whole = words(["-x"])
    assert whole[:1] == ["-n"] and 1 <= int(whole[1]) <= MOST_PROCESSES and str(ROOT / "tests") in whole
    assert words(["tests/test_run.py", "tests/test_style.py"])[0] == "-n"
    for given in (["tests/test_run.py"], ["-n", "1"], ["--webui=http://127.0.0.1:7860"]):
        assert "--dist" not in words(given)
