"""Runs whose UNet rests in the processor's memory: planned, predicted, trained to the same bits, given back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from atelier.config.settings.schema import Settings
from atelier.hosts.contract import SampleRequest
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.shared.borrowed import Borrowed, modules_of
from atelier.hosts.shared.lease import WebUILease
from atelier.models.views.from_ldm import Weights
from atelier.training.device.plan import make_plan
from atelier.training.device.savings import FILE, MemorySavings
from atelier.training.device.streaming import FP8
from atelier.training.memory.plan import make_memory_plan
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import Request, released, request_for
from tests.support.training_fakes import (
    MemoryRecord,
    TinyHost,
    WatchedLease,
    assert_same,
    run,
    tiny_job,
    tiny_parts,
    write_pictures,
)

ON = {"text_and_vae_off": False, "gradient_checkpointing": True, "pieces": 1, "optimizer": "", "streamed": True}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 3)


class Elsewhere(TinyHost):
    """Notes when its UNet goes to rest, which is another memory, as from one device to another."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.moves: list[str] = []
        self.at_rest = False
        self._home: dict[str, Tensor] = {}

    def send_unet_to_rest(self) -> bool:
        return self._to(True, "rest")

    def load_denoiser(self) -> bool:
        return self._to(False, "back")

    def _to(self, rest: bool, what: str) -> bool:
        if self.at_rest == rest:
            return False
        self.at_rest = rest
        self.moves.append(what)
        for name, weight in self.parts.denoiser.named_parameters():
            if rest:
                self._home[name] = weight.data
                weight.data = weight.data.clone()
            else:
                weight.data = self._home.pop(name)
        return True


class Lent(Elsewhere):
    """The same, lent as WebUIs lend their base: with views of the lease's own, pointed anew when something moved."""

    def lease(self, parts: frozenset[str]) -> Any:
        return WebUILease(_Desk(self), parts)


class _Desk:
    """What a lease asks of a WebUI. Its picture between two turns has the UNet fetched."""

    def __init__(self, host: Lent) -> None:
        self._host = host
        self.can_offload_denoiser = host.can_offload_denoiser
        self.queue = lambda: host.queue
        self.loaded_model = host.loaded_model
        self.remove_loras = lambda: None
        self.load_to_device: Callable[[], object] = host.load_denoiser
        self.restore_placement = host.load_denoiser
        self.bring_without_unet = host.send_unet_to_rest

    def borrow(self, parts: frozenset[str]) -> Borrowed:
        lent = self._host.parts

        def read() -> Weights:
            modules = modules_of(lent)
            tensors = {
                name: {key: p.data for key, p in module.named_parameters(remove_duplicate=False)}
                for name, module in modules.items()
            }
            configs = {
                name: dict(module.config) if isinstance(module.config, dict) else module.config.to_dict()
                for name, module in modules.items()
            }
            return Weights(tensors, configs)

        return Borrowed(
            lent.family, read, lambda: list(lent.parameters()), lent.tokenizers, lent.prediction_type,
            lent.zero_terminal_snr,
        )  # fmt: skip


class Small(Lent):
    """Its device cannot hold the whole base."""

    def lease(self, parts: frozenset[str]) -> Any:
        def bring() -> None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        desk = _Desk(self)
        desk.load_to_device = bring
        return WebUILease(desk, parts)


def streamed_record(folder: Path, fp8: bool) -> MemoryRecord:
    """Of a run that was planned with streaming."""
    record = MemoryRecord(folder)
    (folder / FILE).write_text(json.dumps({**ON, "fp8": fp8}), encoding="utf-8")
    return record


@pytest.mark.parametrize("kind", [Elsewhere, Lent])
def test_a_streamed_run_has_the_same_bits(kind: type[Elsewhere], pictures: Path, tmp_path: Path) -> None:
    plain = run(tiny_job(pictures), tmp_path / "plain")
    host = kind(tmp_path / "streamed")
    done = run(tiny_job(pictures), tmp_path / "streamed", host=host, record=streamed_record(tmp_path / "record", False))
    assert done.record.values == plain.record.values
    assert_same(done.tensors, plain.tensors)
    assert host.moves == ["rest", "back"]


@pytest.mark.parametrize("kind", [Elsewhere, Lent])
def test_the_host_draws_between_streamed_steps(kind: type[Elsewhere], pictures: Path, tmp_path: Path) -> None:
    plain = run(tiny_job(pictures), tmp_path / "plain")
    host = kind(tmp_path / "streamed")
    request = SampleRequest("zwx", width=64, height=64, steps=1, seed=1, sampler="DDIM")
    wanted = host.sample(request)

    def draw(step: int, control: object) -> None:
        if step == 2:
            drawn = host.sample(request)
            assert drawn is not None and wanted is not None and drawn.tobytes() == wanted.tobytes()

    record = streamed_record(tmp_path / "record", False)
    done = run(tiny_job(pictures), tmp_path / "streamed", draw, host, record)
    assert_same(done.tensors, plain.tensors)
    assert host.moves == ["rest", "back", "rest", "back"]


def test_a_device_too_small_for_the_base_streams_from_the_start(pictures: Path, tmp_path: Path) -> None:
    plain = run(tiny_job(pictures), tmp_path / "plain")
    done = run(tiny_job(pictures), tmp_path / "streamed", host=Small(tmp_path / "streamed"))
    assert_same(done.tensors, plain.tensors)
    assert done.record.told("the UNet is now kept in CPU memory")


def test_a_streamed_run_goes_on_after_a_restart_with_the_savers_it_had(pictures: Path, tmp_path: Path) -> None:
    """Its UNet rests from the first moment: the whole base would not fit, which would cost it the others."""
    record = streamed_record(tmp_path / "record", False)
    kept = {**ON, "pieces": 2, "fp8": False}
    (record.folder / FILE).write_text(json.dumps(kept), encoding="utf-8")
    done = run(tiny_job(pictures), tmp_path / "streamed", host=Small(tmp_path / "streamed"), record=record)
    assert not done.record.told("Out of memory")
    assert json.loads((record.folder / FILE).read_text(encoding="utf-8")) == kept


def test_a_run_is_no_longer_streamed_where_the_unet_cannot_rest(pictures: Path, tmp_path: Path) -> None:
    host = Lent(tmp_path / "streamed")
    host.can_offload_denoiser = False
    plain = run(tiny_job(pictures), tmp_path / "plain")
    done = run(tiny_job(pictures), tmp_path / "streamed", host=host, record=streamed_record(tmp_path / "record", False))
    assert_same(done.tensors, plain.tensors)
    assert host.moves == []


@pytest.mark.skipif(FP8 is None, reason="this torch has no float8")
def test_a_base_in_fp8_learns_nearly_the_same(pictures: Path, tmp_path: Path) -> None:
    plain = run(tiny_job(pictures), tmp_path / "plain")
    done = run(tiny_job(pictures), tmp_path / "fp8", record=streamed_record(tmp_path / "record", True))
    assert done.record.values == pytest.approx(plain.record.values, rel=0.05)
    assert done.record.values != plain.record.values


def test_out_of_memory_streams_last() -> None:
    savings = MemorySavings(largest_batch=1, can_stream=True)
    assert savings.take_next() and savings.gradient_checkpointing and not savings.streamed
    assert savings.take_next() and savings.streamed and "comes as they" not in savings.notes[0]
    assert not savings.take_next()
    assert not MemorySavings(largest_batch=1, gradient_checkpointing=True).take_next()


def flat(free: int) -> Callable[[Request], Prediction]:
    def predicted(request: Request) -> Prediction:
        step = 1000 - 500 * request.gradient_checkpointing - 400 * request.streamed
        return Prediction(0, 0, 0, 0, 0, 0, 0, 0, 0, step, 0)

    return predicted


@pytest.mark.parametrize(
    ("free", "can", "streamed"), [(600, True, False), (200, True, True), (200, False, False)]
)  # fmt: skip
def test_the_plan_streams_when_nothing_else_is_enough(free: int, can: bool, streamed: bool) -> None:
    request = Request("sdxl", "{}", 64, 64, 1, "{}", device="cuda", can_stream=can)
    plan = make_memory_plan(request, free, flat(free), eight_bit=False)
    assert plan.request.streamed == streamed == plan.savings().streamed
    assert any("The UNet is kept in CPU memory" in sentence for sentence in plan.sentences()) == streamed
    for other in (replace(request, whole_model=True), replace(request, device="cpu")):
        assert not make_memory_plan(other, free, flat(free), eight_bit=False).request.streamed


@pytest.mark.skipif(FP8 is None, reason="this torch has no float8")
@pytest.mark.parametrize("fp8", [False, True])
def test_fp8_base_is_the_way_in_which_a_base_is_streamed(fp8: bool) -> None:
    settings = Settings(network_dim=4, fp8_base=fp8)
    request = request_for(settings, "sd1", {}, (64, 64), 1, "fp16", device="cuda", can_stream=True)
    plan = make_memory_plan(request, 200, flat(200), eight_bit=False)
    savings = plan.savings()
    assert savings.streamed and savings.fp8 is fp8
    assert any("float8" in sentence for sentence in plan.sentences()) == fp8
    assert make_plan(settings, tiny_parts(), savings).fp8 is fp8


@pytest.mark.slow
def test_what_streaming_saves() -> None:
    """The blocks' weights are off the device but for two at a time; as float8 half of them stay."""
    configs = released("sd1")
    configs["unet"] |= {"block_out_channels": [64, 128, 256, 256], "layers_per_block": 1}
    settings = Settings(network_dim=4, network_alpha=4, network_train_unet_only=True, gradient_checkpointing=True)
    request = request_for(
        settings, "sd1", configs, (128, 128), 1, "fp16",
        base_dtype="float16", vae_dtype="float16", device="cuda", can_stream=True,
    )  # fmt: skip
    whole, streamed = predict(request), predict(replace(request, streamed=True))
    unet = whole.base - whole.text_and_vae
    assert whole.text_and_vae < streamed.base < whole.base - 0.8 * unet
    assert streamed.step < whole.step - 0.6 * unet and streamed.borrowed == whole.borrowed
    if FP8 is not None:
        small = predict(replace(request, streamed=True, fp8=True))
        assert streamed.base + 0.4 * unet < small.base < whole.base - 0.3 * unet


def test_a_lease_follows_the_unet_to_rest_and_back(tmp_path: Path) -> None:
    host = Elsewhere(tmp_path)
    with WatchedLease(host, frozenset(("unet",))) as parts:
        lease = host.leases[-1]
        lease.offload_denoiser()
        with lease.turn():
            pass
        ours = next(parts.denoiser.parameters())
        assert ours.data_ptr() == next(host.parts.denoiser.parameters()).data_ptr()
        host.load_denoiser()
        with lease.turn():
            assert ours.data_ptr() == next(host.parts.denoiser.parameters()).data_ptr()
    assert host.moves == ["rest", "back", "rest", "back"]


def test_the_embedded_host_moves_its_unet(tmp_path: Path) -> None:
    host = TinyHost(tmp_path)
    assert not EmbeddedHost.send_unet_to_rest(host) and not EmbeddedHost.load_denoiser(host)
    host.device = torch.device("meta")
    assert EmbeddedHost.load_denoiser(host) and next(host.parts.denoiser.parameters()).device.type == "meta"
