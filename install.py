"""Adds the packages that a WebUI lacks for training, and changes none that it has.

A WebUI runs this file at every start, in a process of its own, before it imports torch; its working folder is the
WebUI's or the extension's. It ends without an error whatever happens, and says what is missing and how to install it.
By hand: `python install.py` adds all that is missing, `python install.py NAME …` only what is named, with the Python
of the WebUI.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))


def skipped() -> bool:
    """True when the WebUI was told not to install anything (`--skip-install`)."""
    launch = sys.modules.get("launch")
    if getattr(getattr(launch, "args", None), "skip_install", False):
        return True
    told = os.environ.get("COMMANDLINE_ARGS", "")
    try:
        words = shlex.split(told)
    except ValueError:  # a quotation mark that is never closed
        words = told.split()
    return "--skip-install" in sys.argv or "--skip-install" in words


CONFLICT = "ResolutionImpossible"
"""What pip calls requirements that contradict each other."""


def pip_install(requirements: list[str], held: str, alone: bool = False) -> str:
    """One call of pip that may not touch a package of `held` (a constraints file's text). Returns pip's last error.

    `alone` leaves out whatever the packages ask for.
    """
    # Here and not above: a start with nothing to add has no use for them, and every start waits for this file.
    import subprocess
    import tempfile

    index = os.environ.get("INDEX_URL", "")  # where AUTOMATIC1111 and its kin look for packages
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text(held, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--prefer-binary", "--no-input"]
        command += ["--disable-pip-version-check", "--retries", "2", "--timeout", "15"]
        command += ["--constraint", str(constraints), *requirements]
        command += ["--no-deps"] if alone else []
        command += ["--index-url", index] if index else []
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return ""
    errors = [line.strip() for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
    return errors[-1] if errors else f"pip ended with code {done.returncode}"


def main(names: list[str]) -> None:
    """Adds what is missing, of `names` or of everything, in one call of pip; makes none when nothing is."""
    from atelier.config.packages import Lookup, constraints, installed, missing, normalised, to_add

    present = Lookup()
    asked = {normalised(name) for name in names}
    requirements = [line for line in to_add(present) if not asked or line.partition("==")[0] in asked]
    if requirements and (asked or not skipped()):
        print(f"Atelier adds {', '.join(requirements)}; no package that is installed will change.", flush=True)
        held = constraints(installed())
        trouble = pip_install(requirements, held)
        if CONFLICT in trouble:
            # The WebUI's own packages contradict each other, as SD.Next's setuptools and torch do: pip would have to
            # replace one. All that ours ask for beyond a WebUI's packages is in the list already.
            trouble = pip_install(requirements, held, alone=True)
        if trouble:
            print(f"Atelier: pip could not do it: {trouble}")
        importlib.invalidate_caches()
        present = Lookup()
    for package in missing(present):
        print(f"Atelier: {package}")


if __name__ == "__main__":
    try:
        main([argument for argument in sys.argv[1:] if not argument.startswith("-")])
    except Exception as error:  # noqa: BLE001 - the WebUI starts whatever happens here
        print(f"Atelier: install.py could not look after the packages: {type(error).__name__}: {error}")
