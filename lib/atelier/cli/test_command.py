"""`run.py test`: every test, through pytest, in as many processes as there are CPU cores, four at most.

`run.py test --quick` leaves out those that are slow, drive a browser, or need a running WebUI.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MOST_PROCESSES = 4
"""Each holds torch and a small model: a few gigabytes with the largest tests."""
QUICK = "not slow and not browser and not webui"
"""The marks of `--quick`; pyproject.toml says what each means."""


def run(arguments: list[str]) -> int:
    """Hands the arguments to pytest: --quick, --webui, --webui-dir and pytest's own. Gives pytest's exit status."""
    import pytest

    return int(pytest.main(["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *words(arguments)]))


def words(arguments: list[str]) -> list[str]:
    """The arguments with what is missing: the folder of the tests, and the processes when there is work for several.

    A file's tests stay in one process, as they share fixtures. One file, a running WebUI or a number of processes
    given with -n is left to pytest as it stands.
    """
    if "--quick" in arguments:
        arguments = [*(word for word in arguments if word != "--quick"), "-m", QUICK]
    paths = [word for word in arguments if not word.startswith("-") and (ROOT / word.split("::")[0]).exists()]
    if not paths:
        arguments = [str(ROOT / "tests"), *arguments]
    alone = len(paths) == 1 or any(word.startswith(("--webui", "-n", "--pdb")) for word in arguments)
    if alone:
        return arguments
    return ["-n", str(min(os.cpu_count() or 1, MOST_PROCESSES)), "--dist", "loadfile", *arguments]
