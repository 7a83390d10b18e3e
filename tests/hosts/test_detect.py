"""A WebUI is known by what its folder says of it, and no other file has to be touched for a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from atelier import hosts
from atelier.config.errors import AtelierError
from atelier.hosts import detect
from atelier.hosts.webui import WebUI, by_name

TOY = """
from atelier.hosts.webui import WebUI

WEBUI = WebUI("Toy", "atelier.hosts.toy.host:ToyHost", needs=("toy_page", "toy_models"), without=("toy_fork",))
"""
HOST = """
class ToyHost:
    name = "toy"
"""
CALLED = {
    "neo": "Forge Neo", "forge": "Forge", "reforge": "reForge", "classic": "Forge Classic", "a1111": "AUTOMATIC1111",
    "sdnext": "SD.Next",
}  # fmt: skip
"""Those made from others before what they were made from: the first whose modules are all there is meant."""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more folder of an adapter."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "__init__.py").write_text(TOY, encoding="utf-8")
    (folder / "host.py").write_text(HOST, encoding="utf-8")
    monkeypatch.setattr(hosts, "__path__", [*hosts.__path__, str(tmp_path)])
    monkeypatch.setattr(hosts, "toy", None, raising=False)
    yield
    for module in ("atelier.hosts.toy", "atelier.hosts.toy.host"):
        sys.modules.pop(module, None)


def having(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr(detect, "has", modules.__contains__)


def test_a_new_folder_is_a_new_host(toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, "toy_page", "toy_models", "modules.call_queue")
    assert detect.detect().name == "toy"


@pytest.mark.parametrize("modules", [("toy_page",), ("toy_page", "toy_models", "toy_fork"), ()])
def test_an_unknown_webui_is_told_which_ones_are_known(
    toy: None, modules: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    having(monkeypatch, *modules)
    with pytest.raises(
        AtelierError, match="Atelier runs in AUTOMATIC1111, Forge, Forge Neo, reForge, SD.Next and Toy.$"
    ):
        detect.detect()
    assert "atelier.hosts.toy.host" not in sys.modules, "an adapter is imported only for its own WebUI"


def test_forge_classic_is_called_what_it_is_and_not_taken_for_reforge(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"modules_forge", "ldm_patched", "modules.sd_models", "modules.call_queue"}
    having(monkeypatch, *here)
    with pytest.raises(AtelierError, match="^Atelier does not run in Forge Classic yet"):
        detect.detect()
    assert [name for name, webui in by_name().items() if webui.is_here(here.__contains__)] == ["classic"]
    having(monkeypatch, *here, "modules.hypernetworks")
    assert [name for name, webui in by_name().items() if webui.is_here(detect.has)] == ["reforge"]


def test_to_ask_which_it_is_loads_nothing_heavy(root: Path) -> None:
    script = "import sys; from atelier.hosts.detect import known; print(len(known()), *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(root / "lib")},
    )  # fmt: skip
    count, *modules = done.stdout.split()
    assert int(count) == len(CALLED) and not {"torch", "gradio", "modules"} & set(modules)
    assert not [name for name in modules if name.startswith("atelier.hosts.") and name.endswith(".host")]


def test_whatever_a_process_has_it_is_one_webui_at_the_most() -> None:
    known: dict[str, WebUI] = by_name()
    assert {name: webui.title for name, webui in known.items()} == CALLED
    named = sorted({module for webui in known.values() for module in (*webui.needs, *webui.without)})
    found = set()
    for count in range(len(named) + 1):
        for modules in combinations(named, count):
            here = [name for name, webui in known.items() if webui.is_here(modules.__contains__)]
            meant = [name for name in CALLED if set(known[name].needs) <= set(modules)]
            assert here in ([], meant[:1]), f"{modules} is {here}"
            found.update(here)
    assert found == set(CALLED)
