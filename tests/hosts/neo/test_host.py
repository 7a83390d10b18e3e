"""Forge Neo's adapter against a stand-in for both of its kinds: LoRAs merged by a loader, or by the patchers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.hosts import detect
from atelier.hosts.contract import BaseGone
from atelier.hosts.neo.host import NeoHost
from atelier.hosts.powers import captioners, card_version, chosen_model
from atelier.hosts.shared.borrowed import modules_of
from atelier.hosts.shared.forge_objects.refusals import NOT_YET
from tests.support.forge_fakes import NeoModel, StableDiffusion

ALL = frozenset(("unet", "text_encoder", "vae"))
LAYER = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
KINDS = pytest.mark.parametrize("kind", [NeoModel, StableDiffusion], ids=["since July 2026", "before"])


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_all_parts_are_the_host_s_own_tensors(neo: Any, family: str) -> None:
    model = neo.load(family, kind=NeoModel)
    objects = model.forge_objects_original
    roots = (objects.unet.model, objects.vae.first_stage_model, objects.clip.cond_stage_model)
    hosts = {tensor.data_ptr() for root in roots for tensor in root.parameters()}
    with NeoHost().lease(ALL) as parts:
        wanted = modules_of(model.parts)
        for part, module in modules_of(parts).items():
            for name, tensor in module.named_parameters():
                assert tensor.data_ptr() in hosts and not tensor.is_inference()
                assert torch.equal(tensor, wanted[part].get_parameter(name))


@KINDS
def test_a_merged_lora_is_taken_out_before_the_loan_and_on_every_turn(neo: Any, kind: type[StableDiffusion]) -> None:
    model = neo.load(kind=kind)
    before = model.forge_objects.unet.model.get_parameter(LAYER).data_ptr()
    model.wear({LAYER: 0.5})
    lease = NeoHost().lease(ALL)
    with lease as parts:
        assert before in {parameter.data_ptr() for parameter in parts.denoiser.parameters()}
        assert model.current_lora_hash == "[]" and neo.networks.loaded_networks == []
        model.wear({LAYER: 0.25}, "b.safetensors")
        assert model.forge_objects.unet.model.get_parameter(LAYER).data_ptr() != before
        with lease.turn():
            assert model.forge_objects.unet.model.get_parameter(LAYER).data_ptr() == before
        assert model.current_lora_hash == "[]"


@KINDS
def test_a_lora_written_anew_is_merged_anew(neo: Any, kind: type[StableDiffusion]) -> None:
    model = neo.load(kind=kind)
    model.wear({LAYER: 0.5})
    NeoHost().publish_lora(neo.path)
    assert neo.networks.listed == [True] and model.current_lora_hash == ""
    loader = getattr(model.forge_objects.unet.model, "lora_loader", None)
    assert loader is None or loader.loaded_hash == ""


def test_the_list_read_anew_is_no_other_model_but_other_modules_are(neo: Any) -> None:
    neo.load(kind=NeoModel)
    data, words = neo.sd_models.model_data, "{{'checkpoint_info': <CheckpointInfo object at {}>, 'modules': {}}}"
    data.forge_hash = words.format("0x7f00aa", "[]")
    lease = NeoHost().lease(ALL)
    with lease:
        data.forge_hash = words.format("0x7f11bb", "[]")
        with lease.turn():
            pass
        data.forge_hash = words.format("0x7f11bb", "['other.vae']")
        with pytest.raises(BaseGone, match="no longer loaded"), lease.turn():
            pass


def test_a_model_that_unload_has_taken_away_is_none(neo: Any) -> None:
    neo.load(kind=NeoModel)
    lease = NeoHost().lease(ALL)
    with lease:
        del neo.sd_models.model_data.sd_model
        assert NeoHost().loaded_model() is None
        with pytest.raises(BaseGone, match="has none"), lease.turn():
            pass


def test_any_error_of_loading_is_a_sentence(neo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ModuleNotFoundError("Failed to recognize model...")

    monkeypatch.setattr(neo.sd_models, "forge_model_reload", fail, raising=False)
    with pytest.raises(AtelierError, match=r"Forge Neo could not load .* recognize"):
        chosen_model(NeoHost())
    assert not neo.lock.locked()


class Weight(torch.nn.Parameter):
    """A parameter that can have marks, as quantised ones have."""


def marked(**marks: Any) -> Weight:
    weight = Weight(torch.zeros(2, 2), requires_grad=False)
    for name, value in marks.items():
        setattr(weight, name, value)
    return weight


@pytest.mark.parametrize(
    ("weight", "named"),
    [
        (marked(gguf_cls=object()), "GGUF"),
        (marked(bnb_quantized=True, quant_type="fp4"), "fp4"),
        (marked(_layout_cls="TensorCoreNVFP4Layout"), "TensorCoreNVFP4Layout"),
        (torch.nn.Parameter(torch.zeros(2, 2).to(torch.float8_e4m3fn), requires_grad=False), "fp8 e4m3"),
        (torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False), "int8"),
    ],
)
def test_the_weights_decide_about_low_bits(neo: Any, weight: torch.nn.Parameter, named: str) -> None:
    model = neo.load(kind=NeoModel)
    unet = model.forge_objects.unet.model
    assert unet.storage_dtype == torch.float32, "what most weights of a mixed file are in"
    unet.diffusion_model.register_parameter("odd", weight)
    info = NeoHost().loaded_model()
    assert info is not None and info.refusal is not None
    assert named in info.refusal and "file" in info.refusal and "Diffusion in Low Bits" not in info.refusal
    neo.sd_models.model_data.forge_loading_parameters = {"unet_storage_dtype": torch.float8_e4m3fn}
    info = NeoHost().loaded_model()
    assert info is not None and '"Diffusion in Low Bits"' in str(info.refusal)


@pytest.mark.parametrize("kind", sorted(NOT_YET))
def test_other_families_are_refused_by_name(neo: Any, kind: str) -> None:
    model = neo.load(kind=NeoModel)
    model.__class__ = type(kind, (type(model),), {})
    info = NeoHost().loaded_model()
    assert info is not None and info.family is None and info.refusal is not None
    assert info.refusal.startswith(NOT_YET[kind]) and info.refusal.endswith("Stable Diffusion 1 or XL.")


def test_rectified_flow_is_called_what_it_is(neo: Any) -> None:
    model = neo.load("sdxl", kind=NeoModel)
    model.forge_objects.unet.model.predictor.prediction_type = "const"
    info = NeoHost().loaded_model()
    assert info is not None and "rectified-flow" in str(info.refusal)


def test_it_is_told_from_forge_by_its_presets(neo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"modules_forge", "modules_forge.presets", "backend", "modules.sd_models", "modules.call_queue"}
    monkeypatch.setattr(detect, "has", here.__contains__)
    assert type(detect.detect()) is NeoHost


def test_its_release_its_cards_and_no_captioner(neo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ModuleType("modules_forge")
    said.forge_version = SimpleNamespace(version="neo")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules_forge", said)
    host = NeoHost()
    assert host.version == ""
    said.forge_version.release = "2.26"
    assert host.version == "2.26"
    assert [card_version(host, family) for family in ("sd1", "sdxl", "sd2")] == ["sd", "xl", None]
    assert captioners(host) == ()


class Options(SimpleNamespace):
    """The WebUI's settings."""

    def set(self, key: str, value: Any) -> None:
        setattr(self, key, value)


@pytest.fixture
def page(neo: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The functions behind the top of its page; `said` has what was called."""
    said: list[Any] = []
    main = ModuleType("modules_forge.main_entry")
    names: dict[str, Callable[..., Any]] = {
        name: (lambda *given, name=name, **more: said.append((name, *given)))
        for name in (
            "refresh_models", "checkpoint_change", "modules_change", "dtype_change", "refresh_model_loading_parameters",
        )
    }  # fmt: skip
    vars(main).update(names)
    folder = ModuleType("modules_forge")
    folder.main_entry = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules_forge", folder)
    monkeypatch.setitem(sys.modules, "modules_forge.main_entry", main)
    models = neo.sd_models
    info = SimpleNamespace(name="new.safetensors", short_title="new")
    monkeypatch.setattr(models, "get_closet_checkpoint_match", lambda name: info, raising=False)
    monkeypatch.setattr(models, "forge_model_reload", lambda: said.append(neo.lock.locked()), raising=False)
    shared = sys.modules["modules.shared"]
    shared.opts = Options(  # type: ignore[attr-defined]
        forge_preset="flux", sd_checkpoint_dropdown_use_short=False, forge_additional_modules_xl=["good.vae"]
    )
    return SimpleNamespace(said=said, options=shared.opts, data=models.model_data)  # type: ignore[attr-defined]


def test_a_checkpoint_is_loaded_with_the_preset_of_its_family(page: Any, neo: Any) -> None:
    from atelier.models.checkpoints.save import save_checkpoint
    from tests.support.models_tiny import tiny_parts

    host = NeoHost()
    path = neo.path.with_name("new.safetensors")
    save_checkpoint(path, tiny_parts("sdxl"))
    host.publish_checkpoint(path, load=False)
    assert page.said == [("refresh_models",)] and page.options.forge_preset == "flux"
    page.said.clear()
    host.publish_checkpoint(path, load=True)
    assert page.said == [
        ("refresh_models",),
        ("dtype_change", "Automatic", "xl"),
        ("modules_change", ["good.vae"], "xl"),
        ("checkpoint_change", "new.safetensors", "xl"),
        ("refresh_model_loading_parameters",),
        True,
    ]
    assert page.options.forge_preset == "xl" and page.data.forge_hash == ""
    page.said.clear()
    host.publish_checkpoint(path, load=True)
    assert [call[0] for call in page.said[:-1]] == [
        "refresh_models", "checkpoint_change", "refresh_model_loading_parameters",
    ], "the preset is chosen already"  # fmt: skip
