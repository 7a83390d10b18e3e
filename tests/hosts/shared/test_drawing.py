"""What a WebUI's page is set to, its interrogators, and that drawing leaves the page's last picture alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.hosts import powers
from atelier.hosts.contract import SampleRequest
from atelier.hosts.shared import interrogators
from atelier.hosts.shared.drawing import last_picture_kept, usual_request

PAGE = {
    "txt2img/Negative prompt/value": "ugly",
    "txt2img/Width/value": 640,
    "txt2img/Height/value": "tall",
    "txt2img/CFG Scale/value": 5,
    "customscript/sampler.py/txt2img/Sampling steps/value": 30,
    "customscript/sampler.py/txt2img/Sampling method/value": "Euler",
    "customscript/sampler.py/txt2img/Schedule type/value": "Karras",
}
LAST = """a cat
on a mat
Negative prompt: a dog
Steps: 12, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 4.5, Seed: 7, Size: 768x512, Model: x, Version: 1"""


def test_the_last_picture_goes_before_the_page(tmp_path: Path) -> None:
    page = tmp_path / "ui-config.json"
    assert usual_request(tmp_path, page) == SampleRequest("")
    page.write_text(json.dumps(PAGE), encoding="utf-8")
    of_page = SampleRequest("", "ugly", 640, 512, 30, 5.0, sampler="Euler", scheduler="Karras")
    assert usual_request(tmp_path, page) == of_page
    (tmp_path / "params.txt").write_text("a text of another kind", encoding="utf-8")
    assert usual_request(tmp_path, page) == of_page
    (tmp_path / "params.txt").write_text(LAST, encoding="utf-8")
    of_last = SampleRequest("", "a dog", 768, 512, 12, 4.5, sampler="DPM++ 2M", scheduler="Automatic")
    assert usual_request(tmp_path, page) == of_last


@pytest.mark.parametrize("before", [None, b"the person's"])
def test_the_last_picture_stays_the_persons(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "params.txt"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(KeyError), last_picture_kept(tmp_path):
        path.write_bytes(b"a sample's")
        raise KeyError
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.fixture
def webui(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A WebUI with both interrogators."""
    calls: list[str] = []

    def tags(picture: Image.Image, force_disable_ranks: bool) -> str:
        calls.append("tag")
        return r"1girl, cat \(animal\)" if force_disable_ranks else "(1girl:0.9)"

    model = SimpleNamespace(start=lambda: calls.append("start"), stop=lambda: calls.append("stop"), tag_multi=tags)
    blip = SimpleNamespace(interrogate=lambda picture: f" a picture of {picture.width} pixels ")
    root, shared, deepbooru = ModuleType("modules"), ModuleType("modules.shared"), ModuleType("modules.deepbooru")
    shared.interrogator, deepbooru.model = blip, model  # type: ignore[attr-defined]
    root.shared, root.deepbooru = shared, deepbooru  # type: ignore[attr-defined]
    for module in (root, shared, deepbooru):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(shared=shared, model=model, calls=calls)


def test_captions_are_as_a_caption_file_has_them(webui: SimpleNamespace) -> None:
    picture = Image.new("RGB", (9, 9))
    assert interrogators.captioners() == ("BLIP", "DeepBooru")
    assert interrogators.caption(picture, "BLIP") == "a picture of 9 pixels"
    assert interrogators.caption(picture, "DeepBooru") == "1girl, cat (animal)"
    assert webui.calls == ["start", "tag", "stop"]


def test_what_a_webui_lacks_is_not_offered(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    webui.shared.interrogator = None
    assert interrogators.captioners() == ("DeepBooru",)
    monkeypatch.delitem(sys.modules, "modules.deepbooru")
    assert interrogators.captioners() == ()
    bare = SimpleNamespace(name="bare")
    assert powers.captioners(bare) == ()  # type: ignore[arg-type]
    with pytest.raises(AtelierError, match="has no BLIP"):
        powers.caption(bare, Image.new("RGB", (9, 9)), "BLIP")  # type: ignore[arg-type]


def test_a_failed_description_is_no_caption(webui: SimpleNamespace) -> None:
    webui.shared.interrogator.interrogate = lambda picture: "a cat<error>"
    with pytest.raises(AtelierError, match="BLIP could not"):
        interrogators.caption(Image.new("RGB", (9, 9)), "BLIP")

    def full(picture: Image.Image, force_disable_ranks: bool) -> str:
        raise RuntimeError("out of memory")

    webui.model.tag_multi = full
    with pytest.raises(AtelierError, match="DeepBooru could not.*out of memory"):
        interrogators.caption(Image.new("RGB", (9, 9)), "DeepBooru")
    assert webui.calls == ["start", "stop"], "the model stays where it is used"

    def missing() -> None:
        raise OSError("no weights")

    webui.model.start = missing
    with pytest.raises(AtelierError, match="DeepBooru could not.*no weights"):
        interrogators.caption(Image.new("RGB", (9, 9)), "DeepBooru")
