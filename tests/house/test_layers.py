"""Imports point down only: cli > bench > ui > jobs > training, demo > hosts > models, data, adapters > config."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = [
    {"cli"},
    {"bench"},
    {"ui"},
    {"jobs"},
    {"training", "demo"},
    {"hosts"},
    {"models", "data", "adapters"},
    {"config"},
]
SHARED = {"atelier.models.family", "atelier.models.checkpoints.pickle_file"}
"""Types that every package may speak in, and the one reader of pickles."""
WEBUI = {"modules", "modules_forge", "backend", "ldm_patched", "networks", "launch"}


def rank(package: str) -> int:
    return next(level for level, packages in enumerate(LAYERS) if package in packages)


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def sources(root: Path) -> list[Path]:
    return sorted((root / "lib" / "atelier").rglob("*.py"))


def package_of(root: Path, path: Path) -> str:
    return path.relative_to(root / "lib" / "atelier").parts[0]


def test_imports_point_down(root: Path) -> None:
    wrong = []
    for path in sources(root):
        package = package_of(root, path)
        if package == "__init__.py":
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "atelier" or len(parts) < 2 or parts[1] == package or name in SHARED:
                continue
            if rank(parts[1]) <= rank(package):
                wrong.append(f"{path.relative_to(root)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_hosts_import_a_webui(root: Path) -> None:
    wrong = [
        f"{path.relative_to(root)} imports {name}"
        for path in sources(root)
        if package_of(root, path) != "hosts"
        for name in imports(path)
        if name.split(".")[0] in WEBUI
    ]
    assert not wrong, "\n".join(wrong)


def test_only_ui_and_the_embedded_host_import_gradio(root: Path) -> None:
    allowed = ("lib/atelier/ui/", "lib/atelier/hosts/embedded/")
    wrong = [
        str(path.relative_to(root))
        for path in sources(root)
        for name in imports(path)
        if name.split(".")[0] == "gradio" and not path.relative_to(root).as_posix().startswith(allowed)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["config", "jobs"])
def test_light_packages_import_no_torch(root: Path, package: str) -> None:
    heavy = {"torch", "diffusers", "transformers", "accelerate", "gradio"}
    wrong = [
        f"{path.relative_to(root)} imports {name}"
        for path in sources(root)
        if package_of(root, path) == package
        for name in imports(path, top_level_only=True)
        if name.split(".")[0] in heavy
    ]
    assert not wrong, "\n".join(wrong)
