"""SD.Next's adapter against a stand-in with its names: views, offloading, refusals, its plain lock."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from atelier.config.errors import AtelierError
from atelier.hosts import detect
from atelier.hosts.contract import BaseGone, SampleRequest
from atelier.hosts.powers import before_end, lora_remark
from atelier.hosts.sdnext.host import SDNextHost
from atelier.hosts.sdnext.queue import Queue
from atelier.hosts.shared.borrowed import modules_of
from atelier.hosts.shared.login import Login
from tests.support.models_tiny import FAMILY_NAMES
from tests.support.sdnext_fakes import hook

ALL = frozenset(("unet", "text_encoder", "vae"))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_all_parts_are_the_host_s_own_tensors(sdnext: Any, family: str, inference: bool) -> None:
    pipe = sdnext.load(family, inference)
    own = {tensor.data_ptr() for module in pipe.modules() for tensor in module.parameters()}
    host = SDNextHost()
    info = host.loaded_model()
    assert info is not None and info.family == family and info.refusal is None
    lease = host.lease(ALL)
    with lease as parts, lease.turn():
        assert set(modules_of(parts)) == {name for name in vars(pipe) if isinstance(getattr(pipe, name), nn.Module)}
        for module in modules_of(parts).values():
            assert all(tensor.data_ptr() in own and not tensor.is_inference() for tensor in module.parameters())
        if family == "sd1":
            hidden = torch.randn(1, 77, 64, requires_grad=True)
            parts.denoiser(
                torch.randn(1, 4, 8, 8), torch.tensor([3]), encoder_hidden_states=hidden
            ).sample.sum().backward()
            assert hidden.grad is not None and float(hidden.grad.abs().sum()) > 0
    assert all(tensor.grad is None for module in pipe.modules() for tensor in module.parameters())


def test_offloading_is_taken_out_and_put_back(sdnext: Any) -> None:
    pipe = sdnext.load()
    before = {name: value.clone() for name, value in pipe.unet.named_parameters()}
    hook(pipe)
    assert next(pipe.unet.parameters()).device.type == "meta"
    lease = SDNextHost().lease(ALL)
    with lease as parts:
        with lease.turn():
            assert not any(hasattr(layer, "_hf_hook") for layer in pipe.unet.modules())
            assert all(torch.equal(value, before[name]) for name, value in parts.denoiser.named_parameters())
        assert sdnext.offloaded == []
        sdnext.progress.pending_tasks["task(1)"] = 1.0  # somebody pressed Generate
        with lease.turn():
            pass
        assert sdnext.offloaded == [True] and next(pipe.unet.parameters()).device.type == "meta"
        sdnext.progress.pending_tasks.clear()
        with lease.turn():
            assert all(torch.equal(value, before[name]) for name, value in parts.denoiser.named_parameters())
    assert sdnext.offloaded == [True, True] and pipe.has_accelerate
    assert next(pipe.unet.parameters()).device.type == "meta"


@pytest.mark.parametrize("fails", [False, True])
def test_a_picture_is_drawn_as_sd_next_keeps_its_model(
    fails: bool, sdnext: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two turns of a run: offloaded again while it is drawn, in the queue, with no trace on the page."""
    pipe = sdnext.load()
    hook(pipe)
    page = Path(sdnext.paths.params_path)
    page.write_text("the person's", encoding="utf-8")
    seen: list[object] = []

    def process_images(task: Any) -> Any:
        seen.append(task.given["prompt"])
        assert sdnext.call_queue.queue_lock.locked() and not torch.is_grad_enabled()
        assert pipe.has_accelerate and next(pipe.unet.parameters()).device.type == "meta"
        page.write_text("the sample's", encoding="utf-8")
        if fails:
            raise RuntimeError("out of memory")
        return SimpleNamespace(images=["picture"])

    class Task:
        def __init__(self, **given: Any) -> None:
            self.given = given

        def close(self) -> None:
            seen.append("closed")

    sdnext.processing.process_images, sdnext.processing.StableDiffusionProcessingTxt2Img = process_images, Task
    sdnext.shared.sd_model = pipe
    monkeypatch.setattr(sdnext.shared.state, "begin", lambda title: title, raising=False)
    monkeypatch.setattr(sdnext.shared.state, "end", lambda job: seen.append(f"end of {job}"), raising=False)
    host = SDNextHost()
    lease = host.lease(ALL)
    with lease:
        with lease.turn():
            assert host.holds_offload
        if fails:
            with pytest.raises(RuntimeError, match="out of memory"):
                host.sample(SampleRequest("zwx"))
        else:
            assert host.sample(SampleRequest("zwx")) == "picture"
        assert seen == ["zwx", "end of Atelier sample", "closed"] and not sdnext.call_queue.queue_lock.locked()
        assert page.read_text(encoding="utf-8") == "the person's" and not host.holds_offload
        with lease.turn():
            assert not pipe.has_accelerate and next(pipe.unet.parameters()).device.type == "cpu"


def test_another_model_is_never_trained_on(sdnext: Any) -> None:
    sdnext.load()
    lease = SDNextHost().lease(ALL)
    with lease:
        sdnext.modeldata.model_data.sd_model = None
        with pytest.raises(BaseGone, match="none"), lease.turn():
            pass
        sdnext.load()
        sdnext.shared.state.job = "Load model"
        with pytest.raises(BaseGone), lease.turn():
            pass
        sdnext.shared.state.job = ""
        with lease.turn():
            pass
    assert not sdnext.call_queue.queue_lock.locked()


def test_refusals_name_the_setting(sdnext: Any) -> None:
    host = SDNextHost()
    pipe = sdnext.load()
    layer = pipe.unet.mid_block.attentions[0].proj_in
    layer.sdnq_dequantizer = object()
    with (
        pytest.raises(AtelierError, match='SDNQ.*"Quantization enabled" in Settings, Model Quantization'),
        host.lease(ALL),
    ):
        pass
    del layer.sdnq_dequantizer
    layer.weight = nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    assert "Model Quantization" in str(host.loaded_model().refusal)  # type: ignore[union-attr]
    pipe = sdnext.load()
    sdnext.shared.opts.lora_fuse_diffusers = sdnext.shared.opts.lora_force_diffusers = True
    assert "LoRA diffusers fuse with model" in str(host.loaded_model().refusal)  # type: ignore[union-attr]
    pipe.text_encoder = None
    assert host.loaded_model().family is None  # type: ignore[union-attr]


def test_who_waits_for_the_plain_lock_gets_it(sdnext: Any) -> None:
    lock = sdnext.call_queue.queue_lock
    queue = Queue(lock)
    turns: list[str] = []
    with queue:
        sdnext.progress.pending_tasks["task(1)"] = 1.0

        def wait() -> None:
            with lock:
                turns.append("picture")

        waiting = threading.Thread(target=wait)
        waiting.start()
    with queue:
        turns.append("step")
    waiting.join()
    assert turns == ["picture", "step"]


def test_the_text_encoder_s_part_of_a_lora_is_asked_for(sdnext: Any) -> None:
    host = SDNextHost()
    assert "LoRA native apply to text encoder" in str(lora_remark(host, text_encoder=True))
    assert lora_remark(host, text_encoder=False) is None
    sdnext.shared.opts.lora_apply_te = True
    assert lora_remark(host, text_encoder=True) is None


def test_a_restart_of_the_server_waits_for_what_runs(sdnext: Any) -> None:
    seen: list[object] = []
    sdnext.shared.restart_server = lambda restart=True: seen.append(restart)
    before_end(SDNextHost(), lambda seconds: seen.append(0 < seconds < 10))
    sdnext.shared.demo = None
    sdnext.shared.restart_server()
    assert seen == [True], "without a page SD.Next goes on, and so must the run"
    sdnext.shared.demo = object()
    sdnext.shared.restart_server(restart="again")
    assert seen == [True, True, "again"]


def test_the_panel_s_questions_are_not_in_the_log(sdnext: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    SDNextHost()  # another release: nothing to leave them out of
    validate = ModuleType("modules.api.validate")
    validate.log_exclude_prefix = ["/assets"]  # type: ignore[attr-defined]
    api = ModuleType("modules.api")
    api.validate = validate  # type: ignore[attr-defined]
    for module in (api, validate):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    SDNextHost()
    SDNextHost()
    assert validate.log_exclude_prefix == ["/assets", "/atelier/v1/jobs"]  # type: ignore[attr-defined]


def test_it_is_recognised(sdnext: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = ("modules.sd_offload", "modules.modeldata", "modules.call_queue", "modules.sd_models")
    monkeypatch.setattr(detect, "has", lambda name: name in there)
    assert detect.detect().name == "sdnext"


def test_one_login_for_page_and_api(tmp_path: Any) -> None:
    from types import SimpleNamespace

    file = tmp_path / "who.txt"
    file.write_text("berta:wort\ncarl:b", encoding="utf-8")
    login = Login(SimpleNamespace(auth=None, tokens={"t": "anna"}), SimpleNamespace(auth="anna:a", auth_file=str(file)))
    assert not login.lets_in({}, {}) and login.lets_in({}, {"access-token": "t"})
    for who, allowed in ((b"anna:a", True), (b"carl:b", True), (b"carl:a", False)):
        import base64

        header = {"authorization": "Basic " + base64.b64encode(who).decode()}
        assert login.lets_in(header, {}) is allowed
    assert not login.local
