"""LoRAs that pictures leave in SD.Next's weights are taken out to the last bit, whatever SD.Next has kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.hooks import remove_hook_from_module

from atelier.hosts.sdnext.host import SDNextHost
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.family import Parts
from tests.support.models_tiny import tiny_parts
from tests.support.sdnext_fakes import hook

ALL = frozenset(("unet", "text_encoder", "vae"))
LAYERS = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": 0.3,
    "mid_block.attentions.0.transformer_blocks.0.ff.net.2": 1.7,
}


def values(pipe: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in pipe.unet.named_parameters()}


def same(pipe: Any, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in pipe.unet.named_parameters())


def noted(sdnext: Any, pipe: Any) -> bool:
    common = sdnext.lora_common
    return bool(common.loaded_networks or common.previously_loaded_networks or pipe.loaded_loras)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("interrupted", [False, True])
def test_in_the_middle_of_a_run(sdnext: Any, fuse: bool, interrupted: bool) -> None:
    pipe = sdnext.load()
    before = values(pipe)
    lease = SDNextHost().lease(ALL)
    with lease as parts:
        sdnext.networks.wear(LAYERS, fuse)
        assert not same(pipe, before)
        sdnext.shared.state.interrupted = interrupted
        with lease.turn():
            assert same(pipe, before) and not noted(sdnext, pipe)
            own = {value.data_ptr() for value in pipe.unet.parameters()}
            assert all(value.data_ptr() in own for value in parts.denoiser.parameters())
        assert sdnext.shared.state.interrupted is interrupted


def test_before_a_run_from_the_checkpoint(sdnext: Any) -> None:
    pipe = sdnext.load()
    save(tiny_parts("sd1"), sdnext.path)
    before = values(pipe)
    host = SDNextHost()
    sdnext.networks.wear(LAYERS)
    sdnext.networks.network_deactivate()  # the next picture had no LoRA: rounding stays
    assert not same(pipe, before)
    with host.lease(ALL):
        assert same(pipe, before)
    assert host.remarks() == []


def test_without_the_checkpoint_the_residue_is_said(sdnext: Any) -> None:
    pipe = sdnext.load()
    save(tiny_parts("sd1", seed=1), sdnext.path)  # another model's file: not taken
    before = values(pipe)
    host = SDNextHost()
    sdnext.networks.wear(LAYERS)
    with host.lease(ALL):
        assert all(torch.allclose(value, before[name], atol=1e-6) for name, value in pipe.unet.named_parameters())
    assert "In 2 of them a rounding error stays" in host.remarks()[0] and host.remarks() == []


def test_a_file_of_an_old_name_is_read_anew(sdnext: Any) -> None:
    pipe = sdnext.load()
    save(tiny_parts("sd1"), sdnext.path)
    before = values(pipe)
    host = SDNextHost()
    sdnext.networks.wear(LAYERS, name="mine")
    sdnext.lora_load.lora_cache["mine"] = object()
    host.publish_lora(host.folders.lora / "other.safetensors")
    assert noted(sdnext, pipe)
    host.publish_lora(host.folders.lora / "mine.safetensors")
    assert same(pipe, before) and not noted(sdnext, pipe) and not sdnext.lora_load.lora_cache


def offloading(sdnext: Any, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in SD.Next's sequential offloading: hooks go for LoRAs to be put in or taken out, and come again after it."""
    hook(pipe)

    def around(do: Any) -> Any:
        def done(*given: Any) -> None:
            for module in pipe.modules():
                remove_hook_from_module(module, recurse=True)
            do(*given)
            hook(pipe)

        return done

    for name in ("wear", "network_activate", "network_deactivate"):
        monkeypatch.setattr(sdnext.networks, name, around(getattr(sdnext.networks, name)))


def offloaded(pipe: Any) -> bool:
    return all(value.device.type == "meta" for value in pipe.unet.parameters())


@pytest.mark.parametrize("fuse", [True, False])
def test_a_base_that_taking_out_has_offloaded_is_brought_again(
    sdnext: Any, fuse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = sdnext.load()
    save(tiny_parts("sd1"), sdnext.path)  # the views rest while SD.Next has the model
    before = values(pipe)
    offloading(sdnext, pipe, monkeypatch)
    host = SDNextHost()
    lease = host.lease(ALL)
    with lease as parts:
        with lease.turn():
            assert not offloaded(pipe)
        sdnext.networks.wear(LAYERS, fuse)
        assert offloaded(pipe)
        with lease.turn():
            assert same(pipe, before) and not noted(sdnext, pipe)
            assert not any(hasattr(layer, "_hf_hook") for layer in pipe.unet.modules())
            own = {value.data_ptr() for value in pipe.unet.parameters()}
            assert all(value.data_ptr() in own for value in parts.denoiser.parameters())
    assert offloaded(pipe) and pipe.has_accelerate and host.remarks() == []
    for module in pipe.modules():
        remove_hook_from_module(module, recurse=True)
    assert same(pipe, before), "and what SD.Next offloads is clean too"


def test_a_file_that_is_read_anew_leaves_the_base_offloaded(sdnext: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has borrowed it: the room on the device is the page's."""
    pipe = sdnext.load()
    save(tiny_parts("sd1"), sdnext.path)
    before = values(pipe)
    offloading(sdnext, pipe, monkeypatch)
    host = SDNextHost()
    sdnext.networks.wear(LAYERS, True, "mine")
    host.publish_lora(host.folders.lora / "mine.safetensors")
    assert not noted(sdnext, pipe) and offloaded(pipe) and pipe.has_accelerate and not host.holds_offload
    for module in pipe.modules():
        remove_hook_from_module(module, recurse=True)
    assert same(pipe, before)


def test_the_panel_lists_a_new_file_at_its_next_refresh(sdnext: Any) -> None:
    """SD.Next makes only the list anew that is open, and shows the others as they were made last."""
    made: list[str] = []

    def page(name: str) -> Any:
        return SimpleNamespace(
            name=name, refresh_time=1.0, page_time=1.0, create_page=lambda tab: made.append(f"{name} {tab}")
        )

    sdnext.shared.extra_networks = [page("model"), page("lora")]
    SDNextHost().publish_lora(Path("mine.safetensors"))
    assert made == ["lora txt2img"]
    assert [page.page_time for page in sdnext.shared.extra_networks] == [1.0, 0]


def save(parts: Parts, path: Any) -> None:
    save_checkpoint(path, parts)
