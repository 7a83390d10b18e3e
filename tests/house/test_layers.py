"""Imports point down only, in the order of `LAYERS`: cli above bench, above ui, and so down to config."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

LAYERS = [
    {"cli"},
    {"bench", "reference"},
    {"ui"},
    {"report"},
    {"jobs"},
    {"training", "demo"},
    {"hosts"},
    {"models", "data", "adapters"},
    {"config"},
]
SHARED = {"atelier.models.family", "atelier.models.checkpoints.pickle_file"}
"""Types that every package may speak in, and the one reader of pickles."""
WEBUI = {"modules", "modules_forge", "backend", "ldm_patched", "networks", "launch"}
FULL = 16
"""Modules in one folder, without its __init__."""


def rank(package: str) -> int:
    return next(level for level, packages in enumerate(LAYERS) if package in packages)


def sources(root: Path) -> list[Path]:
    return sorted((root / "lib" / "atelier").rglob("*.py"))


def package_of(root: Path, path: Path) -> str:
    return path.relative_to(root / "lib" / "atelier").parts[0]


def module_of(root: Path, path: Path) -> str:
    parts = path.relative_to(root / "lib").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path, changed: int) -> ast.Module:
    """A file of the code, read once; `changed` is when it was written, in nanoseconds."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, modules: Collection[str] = (), top_level_only: bool = False) -> Iterator[str]:
    """The modules that a file imports, also inside functions; `from a import b` is a.b if `modules` has that."""
    tree = parsed(path, path.stat().st_mtime_ns)
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path} imports by a relative name"
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in below)


@pytest.fixture(scope="module")
def graph(root: Path) -> dict[str, set[str]]:
    """What each module of ours imports of ours."""
    modules = {module_of(root, path): path for path in sources(root)}
    return {
        module: {name for name in imports(path, modules) if name.split(".")[0] == "atelier"}
        for module, path in modules.items()
    }


def circles(graph: dict[str, set[str]]) -> list[str]:
    """What is left when all that import none of what is left are taken away: the circles and what imports them."""
    left = {module: set(names) for module, names in graph.items()}
    while leaves := {module for module, names in left.items() if not names & left.keys()}:
        left = {module: names for module, names in left.items() if module not in leaves}
    return [f"{module} imports {', '.join(sorted(names & left.keys()))}" for module, names in sorted(left.items())]


def upward(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that point up or to a neighbour: (importer, imported)."""
    found = []
    for module, names in graph.items():
        for name in names:
            package, other = module.split(".")[1:2], name.split(".")[1:2]
            if package and other and other != package and rank(other[0]) <= rank(package[0]):
                found.append((module, name))
    return sorted(found)


def test_imports_point_down(graph: dict[str, set[str]]) -> None:
    found = upward(graph)
    assert {name for _, name in found} == SHARED, "\n".join(f"{module} imports {name}" for module, name in found)


def test_an_import_that_points_up_is_found() -> None:
    lower, upper = "atelier.config.errors", "atelier.ui.tab.page"
    assert upward({lower: {upper}, upper: {lower}}) == [(lower, upper)]
    assert upward({"atelier.data.buckets": {"atelier.models.family"}}) == [
        ("atelier.data.buckets", "atelier.models.family")
    ]


def test_no_import_circle(graph: dict[str, set[str]]) -> None:
    """Not even one that an import inside a function or for types alone would close."""
    assert len(graph) > 100 and sum(map(len, graph.values())) > len(graph)
    assert not circles(graph), "\n".join(circles(graph))


def test_an_import_circle_is_found() -> None:
    straight = {"a": {"b", "c"}, "b": {"c"}, "c": {"elsewhere"}}
    assert not circles(straight)
    assert circles({**straight, "c": {"a"}, "d": set()}) == ["a imports b, c", "b imports c", "c imports a"]


def test_from_a_package_a_module_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text("def late():\n    from atelier.ui import tab, Thing\n    import atelier.jobs\n", encoding="utf-8")
    assert list(imports(file, {"atelier.ui.tab"})) == ["atelier.ui.tab", "atelier.ui", "atelier.jobs"]
    file.write_text("from . import tab\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="relative"):
        list(imports(file))


def test_folders_are_no_heaps(root: Path) -> None:
    """None holds more modules than one overlooks, and each says what lives there."""
    wrong = []
    for folder in sorted({path.parent for top in ("lib/atelier", "tests") for path in (root / top).rglob("*.py")}):
        count = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        start = folder / "__init__.py"
        if count > FULL:
            wrong.append(f"{folder.relative_to(root)} holds {count} modules")
        if not start.is_file() or not ast.get_docstring(ast.parse(start.read_text(encoding="utf-8"))):
            wrong.append(f"{folder.relative_to(root)} does not say what lives there")
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


@pytest.mark.parametrize("package", ["config", "jobs", "report"])
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
