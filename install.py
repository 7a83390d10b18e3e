"""Installs the packages that a WebUI lacks for training, without changing packages that it has.

A WebUI runs this file at every start, in a process of its own, before it imports torch. The working folder is the
WebUI's or the extension's. It always ends without an error, and prints what is missing and how to install it. By hand,
with the WebUI's Python: `python install.py` installs all that is missing, `python install.py NAME …` only these.
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
    text = os.environ.get("COMMANDLINE_ARGS", "")
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation mark that is never closed
        words = text.split()
    return "--skip-install" in sys.argv or "--skip-install" in words


CONFLICT = "ResolutionImpossible"
"""pip's word in its error for requirements that contradict each other."""


def pip_install(requirements: list[str], held: str, alone: bool = False) -> str:
    """Calls pip without changing a package in `held` (a constraints file's text). Returns pip's last error.

    `alone` does not install what the packages depend on.
    """
    # Imported here: every start of a WebUI waits for this file, and most have nothing to install.
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
    """Installs what is missing, of `names` or of everything, in one call of pip; none when nothing is missing."""
    from atelier.config.packages import Lookup, constraints, installed, missing, normalised, to_add

    present = Lookup()
    asked = {normalised(name) for name in names}
    requirements = [line for line in to_add(present) if not asked or line.partition("==")[0] in asked]
    if requirements and (asked or not skipped()):
        print(f"Atelier installs {', '.join(requirements)}. No installed package is changed.", flush=True)
        held = constraints(installed())
        trouble = pip_install(requirements, held)
        if CONFLICT in trouble:
            # The WebUI's own packages contradict each other, as SD.Next's setuptools and torch do, and pip would have
            # to replace one. All packages that ours depend on beyond a WebUI's own are in the list already.
            trouble = pip_install(requirements, held, alone=True)
        if trouble:
            print(f"Atelier: pip failed: {trouble}")
        importlib.invalidate_caches()
        present = Lookup()
    for package in missing(present):
        print(f"Atelier: {package}")


if __name__ == "__main__":
    try:
        main([argument for argument in sys.argv[1:] if not argument.startswith("-")])
    except Exception as error:  # noqa: BLE001 - the WebUI starts whatever happens here
        print(f"Atelier: install.py failed: {type(error).__name__}: {error}")
