"""Keeps memory predictions in the host's cache folder, so that the next start of the same run has them at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import diffusers
import torch

from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import Request

FILE = "memory.json"
_VERSION = 4
_MOST = 500


def remembering(folder: Path) -> Callable[[Request], Prediction]:
    """`predict` with a cache in `folder`. A folder that cannot be read or written does no harm."""

    def predicted(request: Request) -> Prediction:
        key = _key(request)
        known = _read(folder / FILE)
        if key in known:
            try:
                return Prediction(**{name: int(value) for name, value in known[key].items()})
            except (TypeError, ValueError, AttributeError):
                del known[key]
        prediction = predict(request)
        known[key] = asdict(prediction)
        _write(folder / FILE, dict(list(known.items())[-_MOST:]))
        return prediction

    return predicted


def _key(request: Request) -> str:
    text = f"{_VERSION} {torch.__version__} {diffusers.__version__} {request!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: dict[str, dict[str, int]]) -> None:
    """Writes the file as a whole, so that another process never reads half of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
