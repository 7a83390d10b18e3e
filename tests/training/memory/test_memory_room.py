"""The memory plan where the base is not on the device, and what is done when the memory is full all the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch

from atelier.bench.memory import CASES, GB, predicted
from atelier.hosts.contract import ModelInfo
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.embedded.memory import DeviceMemory as EmbeddedMemory
from atelier.hosts.forge.host import ForgeHost
from atelier.hosts.powers import bytes_on_device
from atelier.hosts.shared.memory import DeviceMemory
from atelier.jobs.control import Control
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.sampling.sample import TILE, decode
from atelier.training.inputs.latents import LatentEncoder, posterior
from atelier.training.memory import for_run as memory_run
from atelier.training.memory.for_run import memory_lines
from atelier.training.memory.plan import largest_cut, make_memory_plan, needs
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import MOST_CAPTIONS, Request, released, request_for
from atelier.training.run import train
from atelier.training.trained.whole_model import OwnedLease
from tests.support.models_tiny import tiny_parts as drawn_parts
from tests.support.training_fakes import MemoryRecord, TinyHost, tiny_job, tiny_parts, write_pictures

MB = 1 << 20
FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def of(base: int, beside: int, borrowed: int) -> Prediction:
    """A base of so many MB, of which the host holds `borrowed`, and what a step needs beside it."""
    names = dict.fromkeys(("text_and_vae", "trained", "gradients", "optimizer", "activations", "kept"), 0)
    step = (base + beside) * MB
    return Prediction(base=base * MB, borrowed=borrowed * MB, caching=0, step=step, update=0, **names)


@pytest.mark.parametrize(("there", "wanted"), [(None, 220), (2000, 220), (500, 1720), (0, 2220)])
def test_a_base_that_is_not_on_the_device_has_to_find_room_there(there: int | None, wanted: int) -> None:
    found = needs(of(2000, 200, 2000), there if there is None else there * MB)
    assert found == wanted * MB


@pytest.mark.parametrize(
    ("there", "free", "said"),
    [
        (2000, 500, "This needs about 220 MB on the GPU beside the loaded model; 500 MB are free."),
        (0, 2500, "This needs about 2.2 GB on the GPU, with the model; 2.4 GB are available."),
    ],
)
def test_what_is_said_of_it(there: int, free: int, said: str) -> None:
    request = Request("sd1", "{}", 512, 512, 1, "{}", device="cuda")
    plan = make_memory_plan(request, free * MB, lambda _: of(2000, 200, 2000), False, there * MB)
    assert plan.sentences() == [said]
    tight = make_memory_plan(request, 100 * MB, lambda _: of(2000, 200, 2000), False, there * MB)
    assert not tight.fits and "may not be enough" in tight.sentences()[-1]


def test_a_streamed_base_frees_what_it_takes_now() -> None:
    """Its own room on the device counts as room that can be had."""
    request = Request("sdxl", "{}", 64, 64, 1, "{}", device="cuda", can_stream=True)

    def sizes(asked: Request) -> Prediction:
        return of(300, 500, 2000) if asked.streamed else of(2000, 500, 2000)

    plan = make_memory_plan(request, 100 * MB, sizes, False, 2000 * MB)
    assert plan.request.streamed and plan.fits
    assert plan.sentences()[0] == "This needs about 850 MB on the GPU, with the model; 2.1 GB are available."


def test_savers_that_a_stronger_one_makes_needless_are_left_out() -> None:
    def sizes(asked: Request) -> Prediction:
        saved = 50 * (asked.micro_batches > 1) + 100 * asked.gradient_checkpointing + 1500 * asked.streamed
        return of(2000, 2000 - saved, 2000)

    request = Request("sdxl", "{}", 64, 64, 4, "{}", device="cuda", can_stream=True)
    plan = make_memory_plan(request, 700 * MB, sizes, False)
    assert (plan.request.micro_batches, plan.request.gradient_checkpointing, plan.request.streamed) == (1, True, True)
    assert plan.fits and len(plan.notes) == 2


def test_steps_inside_the_backward_pass_are_not_cut_in_mid_run() -> None:
    fused = Request("sd1", "{}", 64, 64, 4, json.dumps({"fused_backward_pass": True}), whole_model=True)
    assert largest_cut(fused) == 1
    assert largest_cut(replace(fused, accumulates=True)) == largest_cut(replace(fused, settings="{}")) == 4


@pytest.mark.slow
def test_what_lies_there_from_begin_to_end_is_predicted(tmp_path: Path) -> None:
    worn = tmp_path / "worn.safetensors"
    worn.write_bytes(bytes(3 * MB))
    configs = released("sd1")
    configs["unet"] |= {"block_out_channels": [64, 128, 128, 128], "layers_per_block": 1}

    def found(pictures: int = 1, **changes: Any) -> Prediction:
        job = tiny_job(tmp_path, network_dim=8, network_train_unet_only=True, **changes)
        return predict(request_for(job.settings, "sd1", configs, (64, 64), 1, "no", pictures))

    plain = found()
    caption = 77 * 768 * 4
    assert plain.kept == plain.trained + caption
    assert found(pictures=5).kept == plain.trained + 8 * caption
    assert found(shuffle_caption=True).kept == plain.trained + 256 * MB < plain.trained + MOST_CAPTIONS * caption
    more = found(base_weights=[str(worn)])
    assert more.kept == plain.kept + 3 * MB and more.peak == plain.peak + 3 * MB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "goal"),
    [
        (next(c for c in CASES if (c.family, c.side, c.precision, c.gradient_checkpointing) == wanted[:4]
              and c.streamed == wanted[4] and not c.fp8 and c.optimizer == wanted[5]), goal)
        for wanted, goal in (
            (("sd1", 512, "fp16", True, False, ""), 3),
            (("sdxl", 1024, "fp16", True, False, ""), 8),
            (("sdxl", 1024, "fp16", True, True, ""), 6),
            (("sdxl", 1024, "bf16", True, False, "AdamW8bit"), 24),
        )
    ],
    ids=["SD1 at 512", "SDXL at 1024", "SDXL streamed", "SDXL itself"],
)  # fmt: skip
def test_the_goals(case: Any, goal: int) -> None:
    """Of docs/performance.md: predicted, base included."""
    assert predicted(case).peak < goal * GB


# -- the hosts ---------------------------------------------------------------------------------------------------------


def test_the_tab_counts_a_base_that_forge_has_not_loaded_on_the_gpu(
    forge: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = ForgeHost()
    model = forge.load()
    objects = model.forge_objects
    everything = sum(
        p.numel() * p.element_size()
        for root in (objects.unet.model, objects.clip.patcher.model, objects.vae.first_stage_model)
        for p in root.parameters()
    )
    assert bytes_on_device(host) == everything > 0
    monkeypatch.setattr(sys.modules["backend.memory_management"], "get_torch_device", lambda: torch.device("cuda"))
    assert bytes_on_device(host) == 0


def test_the_sentences_of_the_tab_follow_where_the_base_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = TinyHost(tmp_path)
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"")
    info = ModelInfo("base", "sd1", path, "base", "epsilon", "float32", "cuda")
    monkeypatch.setattr(host, "loaded_model", lambda: info)
    monkeypatch.setattr(host.memory, "free", lambda: 3000 * MB)
    monkeypatch.setattr(memory_run, "configs_of_model", lambda family, path: released(family))
    monkeypatch.setattr(memory_run, "remembering", lambda folder: lambda request: of(2000, 200, 2000))
    job = tiny_job(write_pictures(tmp_path / "pictures", 1))
    for there, said in (
        (2000, "220 MB on the GPU beside the loaded model"),
        (100, "2.2 GB on the GPU, with the model"),
    ):
        monkeypatch.setattr(host, "bytes_on_device", lambda there=there: there * MB)
        assert said in memory_lines(job, host, [(512, 512)])[0]


@pytest.mark.parametrize("form", ["diffusers", "safetensors"])
def test_the_tab_and_the_run_ask_for_the_same_prediction(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder and of a single file: what the tab worked out is at hand when the run begins."""
    base = tmp_path / ("base" if form == "diffusers" else "base.safetensors")
    save_checkpoint(base, tiny_parts(), format=form)
    host = EmbeddedHost(tmp_path / "data", base, device="cpu", demo_base=None)
    asked: list[Request] = []

    def noted(request: Request) -> Prediction:
        asked.append(request)
        return of(2000, 200, 2000)

    monkeypatch.setattr(memory_run, "remembering", lambda folder: noted)
    job = tiny_job(write_pictures(tmp_path / "pictures", 3), max_train_steps=1)
    assert memory_lines(job, host, [(32, 32)] * 3)
    of_tab = asked[-1]
    train(job, host, MemoryRecord(tmp_path / "record"), Control())
    assert len(asked) > 1 and asked[-1] == of_tab


@pytest.mark.parametrize("kind", [EmbeddedMemory, lambda device: DeviceMemory(lambda: device)])
def test_what_torch_keeps_unused_counts_as_free(kind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    memory = kind(torch.device("cuda"))
    assert memory.free() == 1200 and memory.total() == 8000


def test_a_device_that_is_full_at_the_end_of_a_streamed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The UNet stays where it is, and nothing that was learnt is lost for it."""
    host = TinyHost(tmp_path)

    def full() -> bool:
        raise FULL

    monkeypatch.setattr(host, "load_denoiser", full)
    lease = EmbeddedHost.lease(host, frozenset(("unet",)))
    lease.offload_denoiser()
    with lease as parts:
        assert parts.computes_on == host.device
        with lease.turn():
            pass
    assert host.leases == []
    monkeypatch.setattr(host, "load_denoiser", lambda: 1 / 0)
    lease = EmbeddedHost.lease(host, frozenset(("unet",)))
    lease.offload_denoiser()
    with pytest.raises(ZeroDivisionError), lease:
        pass


def test_a_move_that_was_broken_off_is_finished_the_next_time(tmp_path: Path) -> None:
    host = TinyHost(tmp_path)
    host.device = torch.device("meta")
    first = next(iter(host.parts.denoiser.children()))
    first.to("meta")
    assert EmbeddedHost.load_denoiser(host)
    assert {p.device.type for p in host.parts.denoiser.parameters()} == {"meta"} and not EmbeddedHost.load_denoiser(
        host
    )


def test_a_model_in_the_way_of_a_step_is_taken_off_the_device() -> None:
    asked: list[int] = []
    free = [50]
    host: Any = SimpleNamespace(turn=nullcontext, memory=SimpleNamespace(free=lambda: free[0]), make_room=asked.append)
    lease = OwnedLease(host, SimpleNamespace(), torch.float32)  # type: ignore[arg-type]
    with lease.turn():
        assert asked == []
    lease.room = 100
    with lease.turn():
        assert asked == [100]
    free[0] = 100
    with lease.turn():
        assert asked == [100]


# -- the VAE -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_picture_too_large_to_decode_at_once_is_decoded_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = drawn_parts("sd1")
    vae: Any = parts.vae
    latents = torch.randn(1, 4, 96, 80, generator=torch.Generator().manual_seed(0))
    whole = decode(parts, latents)[0]
    decoder, sizes = vae.decoder.forward, []

    def small(sample: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        sizes.append(tuple(sample.shape[2:]))
        if max(sample.shape[2:]) > TILE // 8:
            raise FULL
        return decoder(sample, *more, **named)

    monkeypatch.setattr(vae.decoder, "forward", small)
    tiled = decode(parts, latents)[0]
    assert tiled.size == whole.size == (640, 768) and sizes[0] == (96, 80) and len(sizes) > 4
    levels = [torch.tensor(list(picture.tobytes())).float() for picture in (whole, tiled)]
    assert (levels[0] - levels[1]).abs().mean() < 12
    assert not vae.use_tiling

    def wrong(*given: Any, **named: Any) -> None:
        raise RuntimeError("another error")

    monkeypatch.setattr(vae.decoder, "forward", wrong)
    with pytest.raises(RuntimeError, match="another"):
        decode(parts, latents)


@pytest.mark.parametrize("sees_beside", [0, 1])
def test_tiles_meet_where_the_whole_picture_has_them(sees_beside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that looks at each latent by itself gives the same picture in tiles, to the grey level.

    One that sees its neighbours too lacks them at the edges of a tile: tiles overlap, so that little of it is left.
    """
    parts = drawn_parts("sd1")
    vae: Any = parts.vae
    latents = torch.randn(2, 4, 96, 80, generator=torch.Generator().manual_seed(0)) * 0.2
    mixed = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    side = TILE // 8
    largest = [10**6]

    def decoder(sample: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        if max(sample.shape[2:]) > largest[0]:
            raise FULL
        seen = torch.nn.functional.avg_pool2d(sample, 2 * sees_beside + 1, stride=1, padding=sees_beside)
        return torch.einsum("oc,bchw->bohw", mixed, seen).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)

    def levels(latents: torch.Tensor) -> torch.Tensor:
        """[B, H, W, 3]."""
        return torch.stack([torch.tensor(numpy.asarray(picture)).float() for picture in decode(parts, latents)])

    monkeypatch.setattr(vae.decoder, "forward", decoder)
    whole, alone = levels(latents), levels(latents[:, :, :side, :side])
    largest[0] = side
    tiled = levels(latents)
    assert tiled.shape == whole.shape == (2, 768, 640, 3) and whole.std() > 20 and (whole[0] - whole[1]).std() > 20
    at_edges = float((alone - whole[:, :TILE, :TILE]).abs().max())
    assert at_edges == 0 if not sees_beside else at_edges > 20
    assert float((tiled - whole).abs().max()) <= 1 + at_edges / 4


def test_a_half_vae_encodes_in_float32_to_the_last_place() -> None:
    """Its weights are rounded to half, and nothing else is: computing in half is seen to be much further away."""
    parts = tiny_parts()
    vae: Any = parts.vae
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vae.half().float()
    wanted = LatentEncoder(parts, None, 2).encode(pixels, ["a", "b"])
    vae.half()
    found = LatentEncoder(parts, None, 2).encode(pixels, ["a", "b"])
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    found_half = posterior(parts.family, vae, pixels)
    assert found_half is not None
    half, full = found_half[0], posterior(parts.family, vae.float(), pixels)
    assert full is not None and float((half - full[0]).abs().max()) > 1e-5


def test_only_the_encoder_is_copied_to_float32_and_only_while_it_encodes() -> None:
    parts = tiny_parts()
    vae: Any = parts.vae
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = LatentEncoder(parts, None, 2).encode(pixels, ["a", "b"])
    vae.half()
    encoder = LatentEncoder(parts, None, 2)
    found = encoder.encode(pixels, ["a", "b"])
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-2)
    copied: Any = encoder._full_encoder
    assert copied is not None and not hasattr(copied, "decoder") and hasattr(vae, "decoder")
    assert {p.dtype for p in copied.parameters()} == {torch.float32} and vae.encoder.conv_in.weight.dtype == torch.half
