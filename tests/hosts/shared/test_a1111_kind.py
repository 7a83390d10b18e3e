"""Drawing through the txt2img of A1111 and those made from it, as their adapters share it."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from atelier.config.errors import AtelierError
from atelier.hosts.contract import SampleRequest
from atelier.hosts.shared import a1111_kind

REQUEST = SampleRequest("zwx", "ugly", 640, 384, 9, 4.0, 3, "DPM++ 2M", "Karras")


class Task:
    """What `process_images` is given."""

    scheduler: str | None = "Automatic"

    def __init__(self, **given: Any) -> None:
        self.given, self.closed = given, False

    def close(self) -> None:
        self.closed = True


class Plain(Task):
    """That of a WebUI which chooses no schedule apart from the sampler."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name == "scheduler":
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A WebUI that draws: `drawn` has the tasks, `draw` what is done for each."""
    lock, drawn, states = Lock(), list[Any](), list[str]()
    found = SimpleNamespace(lock=lock, drawn=drawn, states=states, folder=tmp_path, images=["picture"], kind=Task)

    def process_images(task: Any) -> Any:
        assert lock.locked()
        (tmp_path / "params.txt").write_text("the sample's", encoding="utf-8")
        drawn.append(task)
        if found.images is None:
            raise RuntimeError("out of memory")
        return SimpleNamespace(images=found.images)

    names = ("modules", "modules.call_queue", "modules.paths_internal", "modules.processing", "modules.sd_models",
             "modules.shared")  # fmt: skip
    made: dict[str, Any] = {name: ModuleType(name) for name in names}
    made["modules.call_queue"].queue_lock = lock
    made["modules.paths_internal"].data_path = str(tmp_path)
    made["modules.processing"].process_images = process_images
    made["modules.processing"].StableDiffusionProcessingTxt2Img = lambda **given: found.kind(**given)
    made["modules.sd_models"].get_closet_checkpoint_match = {"here.safetensors": "entry"}.get
    made["modules.shared"].sd_model = "the model"
    made["modules.shared"].state = SimpleNamespace(begin=lambda job: states.append(job), end=lambda: states.append(""))
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
        if name.startswith("modules."):
            setattr(made["modules"], name.removeprefix("modules."), module)
    return found


def test_a_picture_is_drawn_as_asked_and_leaves_no_trace(webui: SimpleNamespace) -> None:
    page = webui.folder / "params.txt"
    page.write_text("the person's", encoding="utf-8")
    assert a1111_kind.draw(REQUEST, scripts="none") == "picture"
    (task,) = webui.drawn
    assert task.given.items() >= {
        "sd_model": "the model", "prompt": "zwx", "negative_prompt": "ugly", "width": 640, "height": 384, "steps": 9,
        "cfg_scale": 4.0, "seed": 3, "sampler_name": "DPM++ 2M", "do_not_save_samples": True, "do_not_save_grid": True,
    }.items()  # fmt: skip
    assert task.scheduler == "Karras" and task.scripts == "none" and task.closed
    assert webui.states == ["atelier-sample", ""] and not webui.lock.locked()
    assert page.read_text(encoding="utf-8") == "the person's"


def test_no_schedule_is_set_where_none_is_chosen(webui: SimpleNamespace) -> None:
    a1111_kind.draw(SampleRequest("zwx"))
    assert webui.drawn[0].scheduler == "Automatic"
    webui.kind = Plain
    a1111_kind.draw(REQUEST)
    assert "scheduler" not in vars(webui.drawn[1])


def test_what_fails_gives_the_webui_back(webui: SimpleNamespace) -> None:
    webui.images = None
    with pytest.raises(RuntimeError, match="out of memory"):
        a1111_kind.draw(REQUEST)
    assert webui.drawn[0].closed and webui.states[-1] == "" and not webui.lock.locked()
    assert not (webui.folder / "params.txt").exists()
    webui.images = []
    assert a1111_kind.draw(REQUEST) is None


def test_a_checkpoint_that_the_webui_does_not_list_is_named(webui: SimpleNamespace) -> None:
    assert a1111_kind.listed_checkpoint(Path("here.safetensors"), "Forge") == "entry"
    with pytest.raises(AtelierError, match=r"Forge cannot find gone\.ckpt in models, so it is not loaded"):
        a1111_kind.listed_checkpoint(Path("models/gone.ckpt"), "Forge")


class Loads:
    """A1111's `model_data`: `at_first` is what the first picture loads."""

    def __init__(self, at_first: str | None, loaded: str | None = None) -> None:
        self.at_first, self.sd_model = at_first, loaded

    def get_sd_model(self) -> str | None:
        self.sd_model = self.sd_model or self.at_first
        return self.sd_model


@pytest.mark.parametrize("data", [Loads("first"), Loads("no matter", "there"), Loads(None)])
def test_the_chosen_checkpoint_is_loaded(webui: SimpleNamespace, data: Loads) -> None:
    """Also where it failed to load before."""
    models = sys.modules["modules.sd_models"]
    models.model_data = data
    models.reload_model_weights = lambda: setattr(data, "sd_model", "again")
    a1111_kind.load_chosen("A1111")
    assert data.sd_model in ("first", "there", "again") and not webui.lock.locked()


def test_a_checkpoint_that_cannot_be_loaded_is_told(webui: SimpleNamespace) -> None:
    models = sys.modules["modules.sd_models"]
    models.model_data = Loads(None)
    models.reload_model_weights = lambda: None
    with pytest.raises(AtelierError, match=r"A1111 could not load the chosen checkpoint. Its console says why"):
        a1111_kind.load_chosen("A1111")

    def missing() -> None:
        raise FileNotFoundError("No checkpoints found.")

    models.reload_model_weights = missing
    with pytest.raises(AtelierError, match=r"could not load the chosen checkpoint: No checkpoints found"):
        a1111_kind.load_chosen("A1111")
    assert not webui.lock.locked()
