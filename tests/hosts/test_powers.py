"""What only some hosts can do: asked of those that can, and done without elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.hosts import powers
from atelier.hosts.a1111.host import A1111Host
from atelier.hosts.contract import DrawnWith, SampleRequest
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.forge.host import ForgeHost
from atelier.hosts.neo.host import NeoHost
from atelier.hosts.reforge.host import ReForgeHost
from atelier.hosts.sdnext.host import SDNextHost
from atelier.hosts.shared.forge_objects.host import ForgeObjectsHost

PICTURE = Image.new("RGB", (9, 9))
REQUEST = SampleRequest("", width=640)


class Bare:
    """A host with the contract and nothing else."""

    def loaded_model(self) -> str:
        return "what is loaded"


class Able(Bare):
    """A host with every power; notes what it is asked to do."""

    can_offload_denoiser = True

    def __init__(self) -> None:
        self.done: list[object] = []

    def load_chosen(self) -> None:
        self.done.append("loaded")

    def loaded_model(self) -> str:
        return " and ".join(["what is", *map(str, self.done)])

    def offload_denoiser(self) -> None:
        self.done.append("offloaded")

    def make_room(self, size: int) -> None:
        self.done.append(size)

    def bytes_on_device(self) -> int | None:
        return 7

    def before_end(self, end: Any) -> None:
        end(8.0)

    def remarks(self) -> list[str]:
        return ["a LoRA was in the base"]

    def card_version(self, family: str) -> str | None:
        return f"{family} here"

    def drawn_with(self, family: str) -> DrawnWith:
        return DrawnWith(clip_skip=len(family))

    def lora_remark(self, text_encoder: bool) -> str | None:
        return f"turn on {text_encoder}"

    def usual_request(self) -> SampleRequest:
        return REQUEST

    def captioners(self) -> tuple[str, ...]:
        return ("BLIP",)

    def caption(self, picture: Image.Image, captioner: str) -> str:
        return f"{picture.width} pixels by {captioner}"


def test_without_a_power() -> None:
    bare: Any = Bare()
    assert powers.chosen_model(bare) == "what is loaded"
    assert powers.can_offload_denoiser(bare) is False
    powers.offload_denoiser(bare)
    powers.make_room(bare, 5)
    powers.before_end(bare, pytest.fail)
    assert powers.bytes_on_device(bare) is None
    assert powers.remarks(bare) == [] and powers.lora_remark(bare, text_encoder=True) is None
    assert powers.usual_request(bare) == SampleRequest("")
    assert powers.captioners(bare) == ()
    with pytest.raises(AtelierError, match="has no BLIP"):
        powers.caption(bare, PICTURE, "BLIP")


def test_with_every_power() -> None:
    able: Any = Able()
    assert powers.chosen_model(able) == "what is and loaded", "the chosen one is loaded first"
    assert powers.can_offload_denoiser(able)
    powers.offload_denoiser(able)
    powers.make_room(able, 5)
    powers.before_end(able, able.done.append)
    assert able.done == ["loaded", "offloaded", 5, 8.0]
    assert powers.bytes_on_device(able) == 7
    assert powers.remarks(able) == ["a LoRA was in the base"]
    assert powers.lora_remark(able, text_encoder=True) == "turn on True"
    assert powers.usual_request(able) is REQUEST
    assert powers.card_version(able, "sd1") == "sd1 here" and powers.drawn_with(able, "sdxl").clip_skip == 4
    assert powers.captioners(able) == ("BLIP",) and powers.caption(able, PICTURE, "BLIP") == "9 pixels by BLIP"
    with pytest.raises(AtelierError, match="has no DeepBooru"):
        powers.caption(able, PICTURE, "DeepBooru")


def test_a_denoiser_that_cannot_rest_now_is_not_put_to_rest() -> None:
    able: Any = Able()
    able.can_offload_denoiser = False
    assert not powers.can_offload_denoiser(able)
    powers.offload_denoiser(able)
    assert able.done == []


@pytest.mark.parametrize(
    ("ask", "otherwise"),
    [
        (powers.remarks, []),
        (powers.usual_request, SampleRequest("")),
        (powers.bytes_on_device, None),
        (lambda host: powers.lora_remark(host, text_encoder=True), None),
        (lambda host: powers.make_room(host, 1), None),
        (lambda host: powers.card_version(host, "sd1"), None),
        (lambda host: powers.drawn_with(host, "sd1"), DrawnWith()),
    ],
    ids=["remarks", "usual_request", "bytes_on_device", "lora_remark", "make_room", "card_version", "drawn_with"],
)
def test_advice_that_fails_costs_nothing(
    ask: Any, otherwise: object, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    name = request.node.callspec.id

    def broken(*arguments: object) -> None:
        raise RuntimeError("the WebUI's own")

    assert ask(SimpleNamespace(**{name: broken})) == otherwise
    assert f"the host's {name} failed" in caplog.text and "the WebUI's own" in caplog.text


@pytest.mark.parametrize("ask", [powers.chosen_model, powers.captioners, lambda host: powers.before_end(host, print)])
def test_what_is_no_advice_fails_as_it_does(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("the WebUI's own")

    able = Able()
    for name in ("load_chosen", "captioners", "before_end"):
        monkeypatch.setattr(able, name, broken)
    with pytest.raises(RuntimeError, match="the WebUI's own"):
        ask(able)


def test_each_adapter_has_the_powers_of_its_webui() -> None:
    """Read from their classes: what a WebUI does not do, its adapter does not claim."""
    kinds = {
        kind: set()
        for kind in (
            powers.LoadsChosen, powers.MakesRoom, powers.CountsBytesOnDevice, powers.TellsBeforeEnd, powers.HasRemarks,
            powers.RemarksOnLoras, powers.KnowsUsualRequest, powers.Captions, powers.NamesCards, powers.DrawsBySettings,
        )
    }  # fmt: skip
    offloads = set()
    for host in (A1111Host, ForgeHost, NeoHost, ReForgeHost, SDNextHost, EmbeddedHost):
        for kind, hosts in kinds.items():
            if issubclass(host, kind):
                hosts.add(host.name)
        if hasattr(host, "can_offload_denoiser"):
            offloads.add(host.name)
    everyone = {"a1111", "forge", "neo", "reforge", "sdnext", "embedded"}
    assert {kind.__name__: hosts for kind, hosts in kinds.items()} == {
        "LoadsChosen": everyone - {"embedded"},
        "MakesRoom": {"forge", "neo", "reforge"},
        "CountsBytesOnDevice": everyone,
        "TellsBeforeEnd": {"sdnext"},
        "HasRemarks": {"sdnext"},
        "RemarksOnLoras": {"sdnext"},
        "KnowsUsualRequest": everyone,
        "Captions": {"a1111", "forge", "neo", "reforge"},
        "NamesCards": {"neo"},
        "DrawsBySettings": everyone - {"embedded"},
    }
    assert offloads == everyone - {"sdnext"}


def test_no_adapter_is_made_from_another() -> None:
    """What several have in common is in hosts.shared, and none is another's special case."""
    for host in (A1111Host, ForgeHost, NeoHost, ReForgeHost, SDNextHost, EmbeddedHost):
        assert host.__bases__ in ((object,), (ForgeObjectsHost,))
