"""What the files of a folder offer: a new family, kind of adapter or WebUI is a file there, and listed nowhere else."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def offered(package: ModuleType, name: str) -> list[Any]:
    """The objects called `name` in the modules and packages directly inside `package`, in the order of their names.

    Modules without one are imported and passed over. Raises what importing them raises.
    """
    found = []
    for each in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{package.__name__}.{each.name}")
        if hasattr(module, name):
            found.append(getattr(module, name))
    return found
