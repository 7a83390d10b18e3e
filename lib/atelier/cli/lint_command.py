"""`run.py lint`: ruff's rules, ruff's format and mypy's types, as the tests ask for them too."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
"""Each runs as `python -m …` in the checkout; one whose tool is missing fails."""


def check(words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Runs one of the checks. Its output is in `stdout`, errors included; `returncode` 0 is clean."""
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)


def run(arguments: list[str]) -> int:
    """Runs all checks, tells what each says, and gives 1 if one of them is not clean."""
    argparse.ArgumentParser(prog="run.py lint", description=__doc__).parse_args(arguments)
    clean = True
    for words in CHECKS:
        done = check(words)
        print(f"{' '.join(words)}: {done.stdout.strip()}", flush=True)
        clean = clean and done.returncode == 0
    return 0 if clean else 1
