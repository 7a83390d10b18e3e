"""A life of the training command in a fork of this process, which costs no import."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

CRASHED = 70
"""The exit status of a life that ended with an exception."""


def arguments_for(folder: Path, data: str) -> list[str]:
    """What the command is given: the settings and the base of `folder`, and the run below `data`."""
    run = folder / data / "run"
    (run / "samples").mkdir(parents=True, exist_ok=True)  # as of a run that was killed as it was begun
    return [
        str(folder / "settings.toml"), "--ckpt", str(folder / "base"), "--device", "cpu",
        "--data-dir", str(folder / data), "--resume", str(run),
    ]  # fmt: skip


def fork(log: Path, live: Callable[[], int]) -> int:
    """Runs `live` in a fork, which ends with what it gives and says the rest in `log`. Gives the fork's number."""
    child = os.fork()
    if child == 0:
        code = CRASHED
        try:
            said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = live()
        finally:
            if code == CRASHED:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child
