"""Atelier without a WebUI: makes its own environment, then runs the command it was given.

    python run.py                      start the embedded WebUI on 127.0.0.1:7860
    python run.py test                 run every test
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
TORCH = "torch==2.13.0"
"""Installed first and by itself, so that a build for this machine's accelerator, once put there, is kept."""


def python_of(environment: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp_for(requirements: Path) -> str:
    """Changes when the pins or the Python version change."""
    text = f"{sys.version_info[:2]} {TORCH}\n{requirements.read_text(encoding='utf-8')}"
    return hashlib.sha256(text.encode()).hexdigest()


def make_environment(requirements: Path) -> Path:
    """Creates or completes the environment for a requirements file and gives its interpreter.

    Raises subprocess.CalledProcessError when pip fails; the next start tries again.
    """
    python = python_of(ENVIRONMENT)
    stamp = ENVIRONMENT / f"{requirements.stem}.stamp"
    wanted = stamp_for(requirements)
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"Making the environment in {ENVIRONMENT} (once, a few minutes) …", flush=True)
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True, symlinks=os.name != "nt")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, TORCH], check=True)
    subprocess.run([*pip, TORCH, "-r", str(requirements)], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def main() -> int:
    """Hands over to `atelier.cli` inside the environment. Gives the exit status."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        print(f"Atelier needs Python 3.10 to 3.13; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    arguments = sys.argv[1:]
    testing = arguments[:1] == ["test"]
    requirements = HERE / "requirements" / ("test.txt" if testing else "run.txt")
    try:
        python = make_environment(requirements)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"The environment could not be made: {error}\nThe pip output above says why.", file=sys.stderr)
        return 1
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE / "lib"), environment.get("PYTHONPATH", "")])
    )
    command = [str(python), "-m", "atelier.cli", *arguments]
    if os.name == "nt":
        return subprocess.call(command, env=environment)
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
