"""run.py mutate: single-line faults in a copy, and which of them the near tests do not notice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from atelier.bench import mutate
from atelier.bench.mutate import Fault, Mutant, chosen, cosmic_mutants, fault_in, near_tests
from atelier.cli.mutate_command import run
from atelier.config.errors import AtelierError

SMALL = """\
from __future__ import annotations


def larger(a: int | str, b: int) -> int:
    return a if a > b else b


def alone(a: int) -> int:
    return a + 1


def waits(a: int) -> int:
    while a > 9:
        a -= 3
    return a
"""
WORDS = {" > b": " < b", "a + 1": "a - 1", "a -= 3": "a -= 0", "int | str": "int & str", "return a if": "return a of"}
"""What the tests below put in place of what."""


def by_words(text: str) -> Iterator[Mutant]:
    """Stands for cosmic-ray, which the tests' environment has not."""
    for number, line in enumerate(text.splitlines(), 1):
        for old, new in WORDS.items():
            if old in line:
                yield number, partial(text.replace, old, new)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a module, one that imports it, and tests of the module that look at two of three functions."""
    monkeypatch.setattr(mutate, "PATIENCE", 0.0)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    files = {
        "lib/atelier/__init__.py": "",
        "lib/atelier/small/__init__.py": "",
        "lib/atelier/small/sums.py": SMALL,
        "lib/atelier/small/user.py": "from atelier.small import sums\n\n\ndef more(a: int) -> int:\n    return a + 1\n",
        "tests/small/test_sums.py": "from atelier.small.sums import larger, waits\n\n\n"
        "def test_larger():\n    assert larger(1, 2) == 2\n\n\ndef test_waits():\n    assert waits(10) == 7\n",
        "tests/test_user.py": "from atelier.small.user import more\n\n\ndef test_more():\n    assert more(1) == 2\n",
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["slow", "browser", "webui"]\n',
        ".gitignore": "ignored/\n",
        "ignored/large.bin": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


@pytest.mark.slow
def test_what_no_test_looks_at_is_told(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in package.rglob("*.py")}
    assert run(["--files", "lib/atelier/small"], package, by_words) == 0
    trials, told = capsys.readouterr().out.split("4 faults: ")
    assert (
        "noticed: lib/atelier/small/sums.py:5\n    - return a if a > b else b\n    + return a if a < b else b" in trials
    )
    assert "noticed: lib/atelier/small/user.py:5" in trials and "hung: lib/atelier/small/sums.py:14" in trials
    first, *faults = told.splitlines()
    assert first == "1 NOT noticed, 1 hung, 2 noticed"
    assert faults == ["lib/atelier/small/sums.py:9", "    - return a + 1", "    + return a - 1"]
    assert {path: path.read_bytes() for path in package.rglob("*.py")} == before


def test_tests_that_fail_without_a_fault_are_no_measure(package: Path) -> None:
    (package / "tests" / "test_user.py").write_text("import atelier.small.user\nassert False\n", encoding="utf-8")
    with pytest.raises(AtelierError, match="fail already: tests/test_user.py"):
        run(["--files", "lib/atelier/small/user.py"], package, by_words)


@pytest.mark.parametrize("name", ["lib/atelier/none.py", "tests/test_user.py", "lib/../tests"])
def test_faults_are_put_below_lib_alone(name: str, package: Path) -> None:
    with pytest.raises(AtelierError, match="no file or folder below lib/"):
        run(["--files", name], package, by_words)


def test_a_folder_without_git_is_refused(package: Path) -> None:
    (package / ".git").rename(package / "elsewhere")
    with pytest.raises(AtelierError, match="git does not list"):
        run(["--files", "lib"], package, by_words)


def test_the_seed_chooses_the_faults() -> None:
    texts = {"a.py": SMALL, "b.py": SMALL, "empty.py": ""}

    def some(most: int, seed: int) -> list[tuple[str, int]]:
        return [(fault.path, fault.line) for fault in chosen(texts, most, seed, by_words)]

    whole = some(99, 0)
    assert sorted(whole) == [(path, line) for path in ("a.py", "b.py") for line in (5, 9, 14)]
    assert some(2, 0) == whole[:2] and len({tuple(some(3, seed)) for seed in range(9)}) > 1


def test_a_fault_is_one_line_that_means_something_else() -> None:
    assert fault_in("a.py", "a = 1\nb = 2\n", "a = 1\nb = 3\n") == Fault("a.py", 2, "b = 2", "b = 3", "a = 1\nb = 3\n")
    for mutant in ("a = 1\nb = 2\n", "a = 1\nb =  2\n", "a = 2\nb = 3\n", "a = 1\n", "a = 1\nb = \n", None):
        assert fault_in("a.py", "a = 1\nb = 2\n", mutant) is None
    assert fault_in("a.py", SMALL, SMALL.replace("int | str", "int & str")) is None


def test_near_tests_import_the_module_or_its_user(package: Path) -> None:
    assert near_tests(package, "lib/atelier/small/sums.py") == ["tests/small/test_sums.py"]
    (package / "tests" / "small" / "test_sums.py").unlink()
    assert near_tests(package, "lib/atelier/small/sums.py") == ["tests/test_user.py"]
    (package / "tests" / "test_user.py").unlink()
    assert near_tests(package, "lib/atelier/small/sums.py") == []


def test_cosmic_ray_makes_faults() -> None:
    """Where it is installed; requirements/mutate.txt has the version that `run.py mutate` uses."""
    pytest.importorskip("cosmic_ray")
    texts = {mutant() for line, mutant in cosmic_mutants(SMALL) if line == 5}
    assert SMALL.replace(" > b", " >= b") in texts and not any(" is " in text for text in filter(None, texts))
