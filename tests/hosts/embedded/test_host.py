"""The embedded host on a tiny model: lending, switching, drawing while lent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier.adapters.files.kohya_file import save_lora
from atelier.config.errors import AtelierError
from atelier.hosts.contract import BaseGone, SampleRequest
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.models.checkpoints.save import save_checkpoint
from tests.support.models_tiny import modules_of, tiny_parts

EVERYTHING = frozenset(("unet", "text_encoder", "vae"))
REQUEST = SampleRequest("a red circle", "", 64, 64, steps=2, cfg_scale=3, seed=7, sampler="DDIM")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for number, name in enumerate(("first", "second")):
        save_checkpoint(folder / f"{name}.safetensors", tiny_parts("sd1", number), dtype=torch.float32)
    return folder


@pytest.fixture(scope="module")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedHost:
    found = EmbeddedHost(tmp_path_factory.mktemp("data"), device="cpu", demo_base=None)
    for file in models.iterdir():
        (found.folders.checkpoints / file.name).symlink_to(file)
    return found


@pytest.fixture
def host(running: EmbeddedHost) -> EmbeddedHost:
    """The host with the first checkpoint and no LoRA."""
    if running.current is None or running.current.title != "first.safetensors":
        running.load("first.safetensors")
    for file in running.folders.lora.iterdir():
        file.unlink()
    return running


def bits(host: EmbeddedHost) -> dict[str, bytes]:
    """Every weight of the loaded model."""
    assert host.current is not None
    return {
        f"{part}.{name}": tensor.numpy().tobytes()
        for part, module in modules_of(host.current.parts).items()
        for name, tensor in module.state_dict().items()
    }


def draw(host: EmbeddedHost, prompt: str = REQUEST.prompt) -> bytes:
    request = SampleRequest(prompt, "", 64, 64, steps=2, cfg_scale=3, seed=7, sampler="DDIM")
    picture = host.sample(request)
    assert picture is not None and picture.size == (64, 64)
    return picture.tobytes()


def make_lora(host: EmbeddedHost, name: str, seed: int = 0, scale: float = 2.0) -> Path:
    """A LoRA of rank 2 on one attention layer."""
    generator = torch.Generator().manual_seed(seed)
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert host.current is not None
    width = host.current.parts.denoiser.mid_block.attentions[0].transformer_blocks[0].attn1.to_out[0].in_features
    tensors = {
        f"{layer}.lora_down.weight": torch.randn(2, width, generator=generator) * scale,
        f"{layer}.lora_up.weight": torch.randn(width, 2, generator=generator) * scale,
        f"{layer}.alpha": torch.tensor(2.0),
    }
    return save_lora(host.folders.lora / f"{name}.safetensors", tensors, {}, overwrite=True)


def test_nothing_is_loaded_unasked(tmp_path: Path) -> None:
    host = EmbeddedHost(tmp_path, demo_base=None)
    assert host.loaded_model() is None
    assert host.load_default() is None
    with pytest.raises(AtelierError, match="No model is loaded"):
        host.sample(REQUEST)
    with pytest.raises(AtelierError, match="No model is loaded"), host.lease(EVERYTHING):
        pass


def test_a_lease_shares_every_tensor_and_leaves_every_bit(host: EmbeddedHost) -> None:
    before = bits(host)
    with host.lease(EVERYTHING) as lent:
        own, views = modules_of(host.current.parts), modules_of(lent)  # type: ignore[union-attr]
        assert own.keys() == views.keys()
        for part, module in own.items():
            theirs = dict(views[part].named_parameters())
            for name, parameter in module.named_parameters():
                assert theirs[name].data_ptr() == parameter.data_ptr()
                assert theirs[name] is not parameter
        adapter = torch.zeros(1, requires_grad=True)
        out = lent.denoiser(torch.randn(1, 4, 8, 8), 10, torch.randn(1, 77, 64)).sample
        (out * adapter).sum().backward()
        assert adapter.grad is not None
    assert bits(host) == before
    assert host.leases == []


def test_a_lease_gives_only_what_was_asked_for(host: EmbeddedHost) -> None:
    with host.lease(frozenset(("unet",))) as lent:
        assert lent.vae is None and lent.text_encoders == [] and lent.tokenizers == []


def test_who_keeps_the_views_after_the_loan_keeps_no_memory_of_the_base(host: EmbeddedHost) -> None:
    """A paused run's network has the layers that it was attached to."""
    with host.lease(EVERYTHING) as lent:
        layer = lent.denoiser.mid_block.attentions[0].proj_in
        assert layer.weight.numel() > 0
    assert layer.weight.numel() == 0 and sum(p.numel() for module in lent.modules for p in module.parameters()) == 0
    assert sum(p.numel() for p in host.current.parts.parameters()) > 0  # type: ignore[union-attr]


def test_another_checkpoint_ends_turns_and_the_same_one_brings_them_back(host: EmbeddedHost) -> None:
    lease = host.lease(EVERYTHING)
    with lease as lent:
        x = torch.randn(1, 4, 8, 8), 10, torch.randn(1, 77, 64)
        with lease.turn():
            first = lent.denoiser(*x).sample
        host.load("second.safetensors")
        assert sum(parameter.numel() for parameter in lent.denoiser.parameters()) == 0, "the old base keeps its memory"
        with pytest.raises(BaseGone, match="second.safetensors"), lease.turn():
            pass
        assert not host.queue.locked()
        host.load("first.safetensors")
        with lease.turn():
            again = lent.denoiser(*x).sample
            own = dict(host.current.parts.denoiser.named_parameters())  # type: ignore[union-attr]
            for name, parameter in lent.denoiser.named_parameters():
                assert parameter.data_ptr() == own[name].data_ptr()
    assert torch.equal(first, again)


def test_a_file_that_cannot_be_read_changes_nothing(host: EmbeddedHost) -> None:
    (host.folders.checkpoints / "broken.safetensors").write_bytes(b"not a checkpoint")
    before = draw(host)
    with pytest.raises(AtelierError, match="broken"):
        host.load("broken.safetensors")
    with pytest.raises(AtelierError, match="no checkpoint 'absent'.*first.safetensors"):
        host.load("absent")
    info = host.loaded_model()
    assert info is not None and info.title == "first.safetensors"
    assert draw(host) == before


def test_the_identity_is_that_of_the_weights(host: EmbeddedHost, models: Path, tmp_path: Path) -> None:
    first = host.loaded_model()
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((models / "first.safetensors").read_bytes())
    host.load(copy)
    again = host.loaded_model()
    host.load("second.safetensors")
    second = host.loaded_model()
    assert first and again and second
    assert first.identity == again.identity != second.identity
    assert again.title == "copy.safetensors"
    assert (first.family, first.prediction_type, first.dtype, first.device) == ("sd1", "epsilon", "float32", "cpu")


def test_a_picture_has_the_same_bits_while_the_base_is_lent(host: EmbeddedHost) -> None:
    before = draw(host)
    lease = host.lease(EVERYTHING)
    with lease as lent:
        with lease.turn():
            lent.denoiser.mid_block.attentions[0].requires_grad_(True)
            lent.denoiser(torch.randn(1, 4, 8, 8), 10, torch.randn(1, 77, 64)).sample.sum().backward()
        assert draw(host) == before
    assert draw(host) == before


def test_a_lora_of_the_prompt_is_worn_for_one_picture(host: EmbeddedHost) -> None:
    path = make_lora(host, "badge")
    weights, plain = bits(host), draw(host)
    worn = draw(host, REQUEST.prompt + " <lora:badge:1>")
    assert worn != plain
    assert draw(host, REQUEST.prompt + " <lora:badge:0>") == plain
    assert draw(host, REQUEST.prompt + " <lora:badge:1>") == worn
    assert (draw(host), bits(host)) == (plain, weights)
    with pytest.raises(AtelierError, match="no LoRA named 'other'.*badge"):
        draw(host, "<lora:other:1>")
    make_lora(host, "badge", seed=1)
    host.publish_lora(path)
    assert draw(host, REQUEST.prompt + " <lora:badge:1>") != worn, "the file of the same name has new weights"


def test_another_model_forgets_what_was_made_ready_for_the_first(host: EmbeddedHost) -> None:
    make_lora(host, "badge")
    draw(host, "<lora:badge:1>")
    host.load("second.safetensors")
    plain = draw(host)
    assert draw(host, REQUEST.prompt + " <lora:badge:1>") != plain


def test_a_batch_counts_seeds_up_and_can_be_stopped(host: EmbeddedHost) -> None:
    drawn = list(host.generator.draw_batch(REQUEST, 2))
    assert [one.seed for one in drawn] == [7, 8]
    assert drawn[0].picture.tobytes() == draw(host)
    assert all(one.path is not None and one.path.is_file() for one in drawn)
    steps: list[tuple[int, int, int]] = []

    def stop_in_the_second(number: int, step: int, total: int) -> None:
        steps.append((number, step, total))
        if (number, step) == (2, 1):
            host.generator.stop()

    assert len(list(host.generator.draw_batch(REQUEST, 3, stop_in_the_second))) == 1
    assert steps == [(1, 0, 2), (1, 1, 2), (1, 2, 2), (2, 0, 2), (2, 1, 2)]
    assert not host.queue.locked()
    assert len(list(host.generator.draw_batch(REQUEST, 1))) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 65}, "Width is 65"),
        ({"height": 8192}, "Height is 8192"),
        ({"steps": 0}, "Steps is 0"),
        ({"cfg_scale": -1.0}, "CFG scale is -1"),
        ({"seed": -2}, "Seed is -2"),
        ({"sampler": "magic"}, "no sampler 'magic'"),
    ],
)
def test_what_cannot_be_drawn_is_said(host: EmbeddedHost, changes: dict[str, object], words: str) -> None:
    asked = {**REQUEST.__dict__, **changes}
    with pytest.raises(AtelierError, match=words):
        host.sample(SampleRequest(**asked))


def test_memory_is_that_of_the_machine(host: EmbeddedHost) -> None:
    assert 0 < host.memory.free() <= host.memory.total()
    host.memory.ask(host.memory.total())
