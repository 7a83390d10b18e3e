"""run.py: the environment of each command, which tests run, and which with AUTOMATIC1111's libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
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


def test_a_report_installs_nothing_and_asks_the_webui_around_it(
    starter: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout = tmp_path / "extensions" / "atelier"
    monkeypatch.setattr(starter, "HERE", checkout)
    monkeypatch.setattr(starter, "ENVIRONMENT", checkout / ".venv")
    monkeypatch.setattr(starter, "make_environment", lambda *_: pytest.fail("nothing is installed"))
    monkeypatch.setattr(sys, "argv", ["run.py", "report", "--out", "x"])
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: started.append(command))
    monkeypatch.setattr(subprocess, "call", lambda command, env: started.append(command))
    monkeypatch.setattr(starter, "python_of", lambda environment: environment / "python")
    for there in (None, checkout / ".venv", tmp_path / "venv"):
        if there is not None:
            there.mkdir(parents=True)
            (there / "python").touch()
        starter.main()
        python = str(there / "python") if there else sys.executable
        assert started.pop() == [python, "-m", "atelier.cli", "report", "--out", "x"]


def test_quick_tests_run_in_the_main_environment_alone(starter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: started.append(command))
    monkeypatch.setattr(subprocess, "call", lambda command, env: started.append(command))
    monkeypatch.setattr(starter, "run_with_a1111", lambda *_: pytest.fail("only the main environment"))
    monkeypatch.setattr(starter, "make_environment", lambda requirements, *_: Path(requirements.stem))
    monkeypatch.setattr(sys, "argv", ["run.py", "test", "--quick"])
    starter.main()
    assert started == [["test", "-m", "atelier.cli", "test", "--quick"]]


@pytest.mark.parametrize(("command", "made", "wanted"), [
    ("", False, "run.txt"), ("train", True, "run.txt"), ("test", True, "test.txt"), ("lint", True, "test.txt"),
    ("lint", False, "lint.txt"),
])  # fmt: skip
def test_each_command_has_its_environment(
    command: str, made: bool, wanted: str, starter: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(requirements: Path, environment: Path = starter.ENVIRONMENT, first: tuple[str, ...] = ("torch",)) -> Path:
        small = wanted == "lint.txt"
        assert (environment == starter.LINT_ENVIRONMENT) == small and bool(first) != small
        return requirements

    monkeypatch.setattr(starter, "is_made", lambda requirements: made)
    monkeypatch.setattr(starter, "make_environment", make)
    assert starter.environment_for(command).name == wanted


def test_faults_are_made_in_one_environment_and_tried_in_another(
    starter: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: started.append(command))
    monkeypatch.setattr(subprocess, "call", lambda command, env: started.append(command))
    monkeypatch.setattr(starter, "make_environment", lambda requirements, *_, **__: Path(requirements.stem))
    monkeypatch.setattr(sys, "argv", ["run.py", "mutate", "--most", "3"])
    starter.main()
    assert started == [["mutate", "-m", "atelier.cli", "mutate", "--most", "3", "--python", "test"]]


def test_lint_has_the_tools_of_the_tests(root: Path) -> None:
    of_tests = (root / "requirements" / "test.txt").read_text(encoding="utf-8").splitlines()
    first, *pins = (root / "requirements" / "lint.txt").read_text(encoding="utf-8").splitlines()
    assert first.startswith("#") and {"ruff", "mypy"} <= {pin.split("==")[0] for pin in pins}
    assert set(pins) <= set(of_tests)


@pytest.fixture
def pip_calls(starter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip is told to install, instead of installing it."""
    calls: list[list[str]] = []
    ours = SimpleNamespace(
        run=lambda command, check: calls.append(command), call=subprocess.call, DEVNULL=subprocess.DEVNULL
    )
    monkeypatch.setattr(starter, "subprocess", ours)  # venv goes on using the real one
    return calls


@pytest.mark.slow
def test_an_environment_whose_making_was_interrupted_is_made_anew(
    starter: ModuleType, pip_calls: list[list[str]], tmp_path: Path
) -> None:
    requirements, environment = tmp_path / "run.txt", tmp_path / ".venv"
    requirements.write_text("", encoding="utf-8")
    venv.create(environment, with_pip=False, symlinks=os.name != "nt")
    (environment / "half").touch()
    python = starter.make_environment(requirements, environment)
    assert starter.has_pip(python) and not (environment / "half").exists()
    assert [command[-1] for command in pip_calls] == [starter.TORCH, str(requirements)]
    (environment / "kept").touch()
    assert starter.make_environment(requirements, environment) == python
    requirements.write_text("six", encoding="utf-8")
    starter.make_environment(requirements, environment)
    assert (environment / "kept").exists() and len(pip_calls) == 4


def test_of_two_starts_the_second_waits_and_finds_the_environment_made(
    starter: ModuleType, pip_calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requirements, environment = tmp_path / "run.txt", tmp_path / ".venv"
    requirements.write_text("", encoding="utf-8")
    begun, go_on, second_asks = threading.Event(), threading.Event(), threading.Event()
    real, made = starter.one_at_a_time, []

    @contextmanager
    def watched(name: Path) -> Iterator[None]:
        if begun.is_set():
            second_asks.set()
        with real(name):
            yield

    def create(folder: Path, **_: Any) -> None:
        made.append(folder)
        begun.set()
        assert go_on.wait(60)
        python = starter.python_of(folder)
        python.parent.mkdir(parents=True)
        python.touch()

    monkeypatch.setattr(starter, "one_at_a_time", watched)
    monkeypatch.setattr(venv, "create", create)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(starter.make_environment, requirements, environment)
        assert begun.wait(60)
        second = pool.submit(starter.make_environment, requirements, environment)
        assert second_asks.wait(60)
        go_on.set()
        assert first.result(60) == second.result(60)
    assert made == [environment] and len(pip_calls) == 2


def test_the_whole_runs_in_processes_and_one_file_does_not() -> None:
    from atelier.cli.test_command import MOST_PROCESSES, ROOT, words

    whole = words(["-x"])
    assert whole[:1] == ["-n"] and 1 <= int(whole[1]) <= MOST_PROCESSES and str(ROOT / "tests") in whole
    assert words(["tests/cli/test_run.py", "tests/house/test_style.py"])[0] == "-n"
    for given in (["tests/cli/test_run.py"], ["-n", "1"], ["--webui=http://127.0.0.1:7860"]):
        assert "--dist" not in words(given)


def test_quick_leaves_out_what_is_slow() -> None:
    from atelier.cli.test_command import QUICK, words

    quick = words(["--quick", "-x"])
    assert "--quick" not in quick and quick[-3:] == ["-x", "-m", QUICK]
    assert all(f"not {mark}" in QUICK for mark in ("slow", "browser", "webui"))
    assert words(["tests/cli/test_run.py", "--quick"]) == ["tests/cli/test_run.py", "-m", QUICK]
    assert QUICK not in words(["-x"])
