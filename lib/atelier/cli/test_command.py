"""`run.py test`: every test, through pytest."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run(arguments: list[str]) -> int:
    """Hands the arguments to pytest: --webui, --webui-dir and pytest's own. Gives pytest's exit status."""
    import pytest

    if not any(not argument.startswith("-") and (ROOT / argument.split("::")[0]).exists() for argument in arguments):
        arguments = [str(ROOT / "tests"), *arguments]
    return int(pytest.main(["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *arguments]))
