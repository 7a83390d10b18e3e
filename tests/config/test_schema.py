"""The schema: every setting is complete, bounds hold, and the package is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atelier.config.errors import SettingsError
from atelier.config.names import check_output_name, free_name, name_problem
from atelier.config.settings.checks import check, validate
from atelier.config.settings.option import GROUPS, KINDS
from atelier.config.settings.schema import Settings, option, options, parse_resolution


def test_every_setting_is_told_in_full() -> None:
    for found in options():
        assert found.kind in KINDS and found.group in GROUPS, found.key
        assert found.label and found.help.endswith((".", "…")) and "\n" not in found.help, found.key
        if found.kind in ("int", "float") and found.maximum is not None:
            assert found.minimum is not None and found.minimum < found.maximum, found.key
    assert len({found.key for found in options()}) == len(options()) > 120


def test_groups_are_in_the_order_of_the_tab() -> None:
    order = [GROUPS.index(found.group) for found in options()]
    assert order == sorted(order)


def test_defaults_are_valid() -> None:
    assert validate(Settings()) == []


def test_lists_are_not_shared() -> None:
    first = Settings()
    first.network_args.append("x=1")
    assert Settings().network_args == [] and option("network_args").default == []


BOUNDED = [found for found in options() if found.minimum is not None]


@pytest.mark.parametrize("found", BOUNDED, ids=lambda found: found.key)
def test_bounds_hold(found) -> None:  # type: ignore[no-untyped-def]
    wrong = [found.minimum - 1] + ([found.maximum * 2 + 1] if found.maximum is not None else [])
    for number in wrong:
        value = [float(number)] if found.kind == "floats" else number
        assert found.key in {problem.key for problem in validate(Settings(**{found.key: value}))}


def test_replace_leaves_the_original() -> None:
    first = Settings()
    assert (first.replace(seed=3).seed, first.seed) == (3, None)


def test_check_tells_every_problem() -> None:
    with pytest.raises(SettingsError) as caught:
        check(Settings(network_dim=0, learning_rate=99.0))
    assert {problem.key for problem in caught.value.problems} == {"network_dim", "learning_rate"}


@pytest.mark.parametrize(("text", "size"), [("512", (512, 512)), ("512,768", (512, 768)), ("640x512", (640, 512))])
def test_resolutions(text: str, size: tuple[int, int]) -> None:
    assert parse_resolution(text) == size


def test_the_package_loads_nothing_heavy(root: Path) -> None:
    folder = root / "lib" / "atelier" / "config"
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    code = f"import sys, {', '.join('atelier.config.' + name for name in modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root / "lib", timeout=60, check=True
    )
    assert not {"torch", "numpy", "PIL", "gradio", "diffusers"} & set(done.stdout.split())


@pytest.mark.parametrize("name", [
    "", " ", "a/b", "a\\b", "..", ".", "../x", ".hidden", "x.", "x ", " x", "-x", "con", "NUL", "com1.x", "a:b", "a*",
    "a?", 'a"b', "a<b", "a|b", "a\nb", "a\x00b", "a\x7f", "x" * 101, "é" * 101,
])  # fmt: skip
def test_names_that_no_file_can_have(name: str) -> None:
    assert name_problem(name)
    with pytest.raises(SettingsError):
        check_output_name(name)


def test_a_long_name_says_which_limit_it_is_over() -> None:
    assert "at most 100 characters" in (name_problem("x" * 101) or "")
    assert "at most 200 bytes" in (name_problem("猫" * 90) or "")


@pytest.mark.parametrize("name", ["cat", "my cat", "cat-2", "Käse_1.5", "猫", "v1.2", "console", "x" * 100])
def test_names_that_are_fine(name: str) -> None:
    assert check_output_name(name) == name


def test_the_next_free_name(tmp_path: Path) -> None:
    assert free_name(tmp_path, "cat") == "cat"
    (tmp_path / "Cat.safetensors").touch()
    (tmp_path / "cat-2-000004.safetensors").touch()
    (tmp_path / "cat-3.txt").touch()
    assert free_name(tmp_path, "cat") == "cat-3"
    assert free_name(tmp_path, "cat", ["CAT-3"]) == "cat-4"
    assert free_name(tmp_path / "none", "cat") == "cat"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "https://example.org/hook?key=a%20b", None, ""])
def test_addresses_of_a_webhook(url: str | None) -> None:
    assert validate(Settings(webhook_url=url)) == []


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("file:///etc/passwd", "https://"),
        ("ftp://example.org/x", "https://"),
        ("example.org/hook", "https://"),
        ("https:///hook", "https://"),
        ("https://example.org/a b", "https://"),
        ("https://example.org/a\r\nHost: b", "https://"),
        ("http://[::1/hook", "https://"),
        ("http://example.org:99999/hook", "https://"),
        ("https://ann:secret@example.org/hook", "name and password"),
    ],
)
def test_other_addresses_of_a_webhook(url: str, allowed: str) -> None:
    (problem,) = validate(Settings(webhook_url=url))
    assert (problem.key, allowed in problem.allowed) == ("webhook_url", True)
    assert "secret" not in str(problem)
