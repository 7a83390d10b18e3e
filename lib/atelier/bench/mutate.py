"""Puts single-line faults into the code and checks whether the near tests notice them.

The faults are made by cosmic-ray (requirements/mutate.txt). All happens in a copy of the checkout.
"""

from __future__ import annotations

import ast
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from atelier.config.errors import AtelierError

Mutant = tuple[int, Callable[[], "str | None"]]
"""The line of a fault, from 1, and what makes the text of the file with it."""
Mutants = Callable[[str], Iterable[Mutant]]
"""What can be made of the text of a file."""
NOTICED, UNNOTICED, HUNG = "noticed", "NOT noticed", "hung"
PASSED = (0, 5)
"""pytest's exit statuses: all passed, or there was no test to run."""
PATIENCE = 30.0
"""Seconds that tests with a fault may take beside five times what they take without one."""
MOST_NEAR = 8
"""Test files that are run for a fault."""
TYPE_ERRORS = re.compile("_(RShift|LShift|BitOr|BitAnd|BitXor|Invert|Pow|Is|IsNot)$")
"""Operators that put these in place of others: nearly always a TypeError, or nothing, and no news."""


@dataclass(frozen=True)
class Fault:
    """One line of a file, and what it becomes."""

    path: str
    """From the checkout, with slashes."""
    line: int
    """From 1."""
    before: str
    after: str
    text: str
    """The whole file with it."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}\n    - {self.before.strip()}\n    + {self.after.strip()}"


def cosmic_mutants(text: str) -> Iterator[Mutant]:
    """What cosmic-ray's operators can make of a file; those that want arguments are left out."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(text)))
    for name in operator_names():
        kind = get_operator(name)
        if not kind.arguments() and not TYPE_ERRORS.search(name):
            places = (begin for node in nodes for begin, _ in kind().mutation_positions(node))
            for number, (line, _) in enumerate(places):
                yield line, partial(mutate_code, text, kind(), number)


def chosen(texts: Mapping[str, str], most: int, seed: int, mutants: Mutants) -> Iterator[Fault]:
    """At most `most` faults, never two in one line: a file by its length, then a line, then what becomes of it."""
    dice = random.Random(seed)
    left: dict[str, dict[int, list[Mutant]]] = {}
    files = sorted(path for path, text in texts.items() if text.strip())
    while files and most > 0:
        path = dice.choices(files, [len(texts[path]) for path in files])[0]
        if path not in left:
            left[path] = {}
            for mutant in mutants(texts[path]):
                left[path].setdefault(mutant[0], []).append(mutant)
        if not left[path]:
            files.remove(path)
            continue
        possible = left[path].pop(dice.choice(sorted(left[path])))
        dice.shuffle(possible)
        fault = next(filter(None, (fault_in(path, texts[path], make()) for _, make in possible)), None)
        if fault is not None:
            most -= 1
            yield fault


def fault_in(path: str, text: str, mutant: str | None) -> Fault | None:
    """The one line that differs; None where it is not one, or where only an annotation does: that changes nothing."""
    if mutant is None or _meaning(mutant) in ("", _meaning(text)):
        return None
    lines, changed = text.splitlines(), mutant.splitlines()
    places = [number for number, pair in enumerate(zip(lines, changed, strict=False)) if pair[0] != pair[1]]
    if len(lines) != len(changed) or len(places) != 1:
        return None
    return Fault(path, places[0] + 1, lines[places[0]], changed[places[0]], mutant)


def _meaning(text: str) -> str:
    """The code without annotations, which are never evaluated here; "" where it is no Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def near_tests(root: Path, path: str) -> list[str]:
    """The test files that import the module at `path`, or else one that imports it: the nearest MOST_NEAR."""
    tests = {file.relative_to(root): _imports(file) for file in sorted((root / "tests").rglob("test_*.py"))}
    modules = {_module(file.relative_to(root).as_posix()): file for file in (root / "lib" / "atelier").rglob("*.py")}
    wanted: set[str] = set()
    more = {_module(path)}
    while more - wanted:
        wanted |= more
        if near := [file for file, names in tests.items() if names & wanted]:
            parts = Path(path).parts[2:]
            near.sort(
                key=lambda file: -sum(1 for part in zip(file.parts[1:], parts, strict=False) if part[0] == part[1])
            )
            return [file.as_posix() for file in near[:MOST_NEAR]]
        more = {module for module, file in modules.items() if _imports(file) & wanted}
    return []


def _module(path: str) -> str:
    return path.removeprefix("lib/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def _imports(path: Path) -> set[str]:
    """The names of modules and of what is taken from them: `a.b` and `a.b.c` for `from a.b import c`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return found


def copied(root: Path, to: Path) -> Path:
    """Copies what git has or would have of a checkout. Raises `AtelierError` where git does not know it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise AtelierError(f"Faults are put into a copy of what git lists, and git does not list {root}.") from error
    for name in filter(None, listing.split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    return to


class Trial:
    """Runs near tests in the copy `root` with the interpreter `python`; `more` goes to pytest."""

    def __init__(self, root: Path, python: str = sys.executable, more: Sequence[str] = ()) -> None:
        self.root = root
        self.command = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *more]
        # Python takes a file that changed within a second, and not in length, for the one that it has compiled.
        self.environment = {**os.environ, "PYTHONPATH": str(root / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.seconds: dict[tuple[str, ...], float] = {}
        """How long the tests take without a fault, by their files."""

    def of(self, fault: Fault) -> str:
        """NOTICED, UNNOTICED or HUNG. Raises `AtelierError` when the tests fail without the fault."""
        tests = tuple(near_tests(self.root, fault.path))
        if not tests:
            return UNNOTICED
        if tests not in self.seconds:
            begun = time.monotonic()
            if self._pytest(tests, None) not in PASSED:
                raise AtelierError(f"Without a fault, these tests fail already: {' '.join(tests)}")
            self.seconds[tests] = time.monotonic() - begun
        file = self.root / fault.path
        before = file.read_bytes()
        try:
            file.write_text(fault.text, encoding="utf-8")
            status = self._pytest(tests, PATIENCE + 5 * self.seconds[tests])
        except subprocess.TimeoutExpired:
            return HUNG
        finally:
            file.write_bytes(before)
        return UNNOTICED if status in PASSED else NOTICED

    def _pytest(self, tests: Sequence[str], most_seconds: float | None) -> int:
        running = subprocess.Popen(
            [*self.command, *tests], cwd=self.root, env=self.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return running.wait(most_seconds)
        finally:
            if running.poll() is None:
                _end(running)


def _end(running: subprocess.Popen[bytes]) -> None:
    """Ends a process, and those that it started where they can be told."""
    if sys.platform == "win32":
        running.kill()
    else:
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
