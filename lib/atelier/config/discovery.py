"""Finds plug-ins: a new family, kind of adapter or WebUI is one file in its folder and is listed nowhere else."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def offered(package: ModuleType, name: str) -> list[Any]:
    """The objects called `name` in the modules and packages directly inside `package`, in the order of their names.

    Modules without such an object are imported and skipped. Raises what importing them raises.
    """
    found = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, name):
            found.append(getattr(module, name))
    return found
