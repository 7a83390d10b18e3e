"""Atelier without a WebUI: makes its own Python environment, then runs a command in it.

    python run.py                      start the embedded WebUI on 127.0.0.1:7860
    python run.py test                 run every test, then a part of them with AUTOMATIC1111's libraries
    python run.py test --quick         run the tests that take seconds
    python run.py mutate               tell which faults in the code no test would notice
    python run.py lint                 check rules, format and types of the code
    python run.py demo --out DIR       train the demo subject, draw before and after
    python run.py train CONFIG.toml    train without a browser
    python run.py --help               all commands

Needs Python 3.10 to 3.13 and nothing else. The environment lies in .venv beside this file.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
A1111_ENVIRONMENT = HERE / ".venv-a1111"
"""An environment with AUTOMATIC1111's pinned libraries: the tests below also run with them, after all others."""
A1111_PYTHONS = ((3, 10), (3, 11))
"""Python versions for which these pinned libraries have wheels."""
A1111_TESTS = (
    "ui/test_tab.py",
    "ui/test_exchange.py",
    "ui/test_routes.py",
    "config/imports/test_import.py",
    "config/test_export.py",
    "adapters/test_files.py",
    "models/test_view.py",
    "models/test_text.py",
    "models/test_checkpoint.py",
    "training/runs/test_runs.py",
    "training/resuming/test_resume.py::test_stopped_and_resumed",
)
TORCH = "torch==2.13.0"
"""Installed first and alone, so that a build for this machine's GPU is kept once it is installed."""
MUTATE_ENVIRONMENT = HERE / ".venv-mutate"
"""For the tool that makes the faults; the tests that shall notice them run in the usual environment."""
LINT_ENVIRONMENT = HERE / ".venv-lint"
"""For `lint` where the tests' environment is not made: it needs no torch, and is there in seconds."""


def python_of(environment: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp_for(requirements: Path) -> str:
    """A text that changes when the pinned versions or the Python version change."""
    text = f"{sys.version_info[:2]} {TORCH}\n{requirements.read_text(encoding='utf-8')}"
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def one_at_a_time(name: Path) -> Iterator[None]:
    """Waits while another process holds the file `name`, since two that make the same environment would break it."""
    with name.open("w", encoding="utf-8") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:  # it gives up after ten seconds
                    continue
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def has_pip(python: Path) -> bool:
    """False when there is no environment, or when making it was interrupted."""
    return python.exists() and subprocess.call([str(python), "-c", "import pip"], stderr=subprocess.DEVNULL) == 0


def is_made(requirements: Path, environment: Path = ENVIRONMENT) -> bool:
    """True when the environment has what the requirements file pins now."""
    stamp = environment / f"{requirements.stem}.stamp"
    return (
        python_of(environment).exists()
        and stamp.exists()
        and stamp.read_text(encoding="utf-8") == stamp_for(requirements)
    )


def make_environment(requirements: Path, environment: Path = ENVIRONMENT, first: tuple[str, ...] = (TORCH,)) -> Path:
    """Creates or completes the environment for a requirements file and returns its interpreter.

    `first` is installed before the others. Raises subprocess.CalledProcessError when pip fails; the next start tries
    again.
    """
    python = python_of(environment)
    if is_made(requirements, environment):
        return python
    with one_at_a_time(environment.with_name(f"{environment.name}.lock")):
        if is_made(requirements, environment):
            return python
        print(f"Making the environment in {environment} (once, a few minutes) …", flush=True)
        if not has_pip(python):
            venv.create(environment, with_pip=True, clear=environment.exists(), symlinks=os.name != "nt")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for package in first:
            subprocess.run([*pip, package], check=True)
        subprocess.run([*pip, *first, "-r", str(requirements)], check=True)
        stamp = environment / f"{requirements.stem}.stamp"
        stamp.write_text(stamp_for(requirements), encoding="utf-8")
    return python


def environment_for(command: str) -> Path:
    """Makes the environment that a command needs, and returns its interpreter. Raises as `make_environment` does."""
    folder = HERE / "requirements"
    if command == "report":
        return python_for_report()
    if command == "lint" and not is_made(folder / "test.txt"):
        return make_environment(folder / "lint.txt", LINT_ENVIRONMENT, first=())
    return make_environment(folder / ("test.txt" if command in ("test", "lint", "mutate") else "run.txt"))


def run_with_a1111(environment: dict[str, str]) -> int:
    """Runs `A1111_TESTS` with AUTOMATIC1111's libraries. Returns the exit status; 0, with a line, if it cannot."""
    if sys.version_info[:2] not in A1111_PYTHONS:
        version = sys.version.split()[0]
        print(f"Not run with AUTOMATIC1111's libraries, which need Python 3.10 or 3.11; this is {version}.")
        return 0
    try:
        python = make_environment(HERE / "requirements" / "a1111.txt", A1111_ENVIRONMENT)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"Not run with AUTOMATIC1111's libraries, which could not be installed: {error}", file=sys.stderr)
        return 0
    print("Now a part of the tests with AUTOMATIC1111's libraries:", flush=True)
    tests = [str(HERE / "tests" / name) for name in A1111_TESTS]
    return subprocess.call([str(python), "-m", "atelier.cli", "test", *tests], env=environment)


def python_for_report() -> Path:
    """The WebUI's Python if this is one of its extensions, else ours, else this one. Nothing is installed."""
    webui = [HERE.parents[1] / name for name in ("venv", ".venv")] if HERE.parent.name == "extensions" else []
    there = (python_of(environment) for environment in (*webui, ENVIRONMENT))
    return next((python for python in there if python.exists()), Path(sys.executable))


def main() -> int:
    """Runs `atelier.cli` in the environment. Returns the exit status."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        print(f"Atelier needs Python 3.10 to 3.13; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    arguments = sys.argv[1:]
    try:
        python = environment_for(arguments[0] if arguments else "")
        if arguments[:1] == ["mutate"]:
            arguments += ["--python", str(python)]
            python = make_environment(HERE / "requirements" / "mutate.txt", MUTATE_ENVIRONMENT, first=())
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"The environment could not be made: {error}\nThe pip output above says why.", file=sys.stderr)
        return 1
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE / "lib"), environment.get("PYTHONPATH", "")]))
    command = [str(python), "-m", "atelier.cli", *arguments]
    if arguments == ["test"]:
        status = subprocess.call(command, env=environment)
        return run_with_a1111(environment) or status
    if os.name == "nt":
        return subprocess.call(command, env=environment)
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
