"""Blocks that are fetched as they compute: the same losses and gradients, and little on the device at any time.

The device is simulated on the processor: what a fetch makes is its memory, counted until it is freed.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from atelier.adapters.config import NetworkConfig
from atelier.adapters.network import build
from atelier.models.family import Parts
from atelier.models.unet.latent_diffusion import units_of
from atelier.training.device.plan import Plan
from atelier.training.device.streaming import FP8, Packed, Streamed
from tests.support.models_tiny import tiny_parts

DEVICE = torch.device("cpu")


class Device:
    """Memory that copies are made in."""

    def __init__(self) -> None:
        self.now = self.peak = self.fetched = 0

    def __call__(self, weight: Tensor) -> Tensor:
        copy = weight.clone()
        size = copy.numel() * copy.element_size()
        self.now += size
        self.fetched += 1
        self.peak = max(self.peak, self.now)
        weakref.finalize(copy.untyped_storage(), self._freed, size)
        return copy

    def _freed(self, size: int) -> None:
        self.now -= size


@contextmanager
def trained(parts: Parts, checkpointing: bool = True, conv_dim: int | None = None) -> Iterator[nn.Module]:
    """LoRA on the UNet, with noise in place of zeros so that every layer has a gradient."""
    network = build(parts, NetworkConfig(dim=2, alpha=2.0, conv_dim=conv_dim, text_encoders=False), seed=3)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.05, generator=generator)
    Plan("no", gradient_checkpointing=checkpointing).checkpoint(parts)
    with network.attached():
        yield network


def step(parts: Parts, network: nn.Module) -> tuple[float, list[Tensor]]:
    """A loss and the gradients of every adapter."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 5, parts.denoiser.config.cross_attention_dim, generator=generator)
    for parameter in network.parameters():
        parameter.grad = None
    loss = parts.denoiser(latents, torch.tensor([10, 700]), encoder_hidden_states=text).sample.square().mean()
    loss.backward()
    return float(loss), [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@pytest.fixture
def parts() -> Parts:
    return tiny_parts("sd1")


def test_the_same_bits_with_little_on_the_device(parts: Parts) -> None:
    with trained(parts) as network:
        loss, gradients = step(parts, network)
        before = dict(parts.denoiser.named_parameters())
        device = Device()
        streamed = Streamed(parts.denoiser, units_of(parts.denoiser), DEVICE, fetch=device)
        streamed.begin()
        resident, blocks = device.now, sum(streamed_size(unit) for unit in units_of(parts.denoiser))
        device.peak = device.now
        for _ in range(2):
            found, others = step(parts, network)
            assert found == loss and len(others) == len(gradients) > 0
            assert all(torch.equal(one, other) for one, other in zip(gradients, others))
        largest = max(streamed_size(unit) for unit in units_of(parts.denoiser))
        assert resident + largest < device.peak <= resident + 3 * largest < resident + blocks
        streamed.end()
        assert device.now == 0
        after = dict(parts.denoiser.named_parameters())
        assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
        assert all("forward" not in vars(unit) for unit in units_of(parts.denoiser))
        assert step(parts, network)[0] == loss


def streamed_size(unit: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in streamed_parameters(unit))


def test_each_block_is_fetched_twice_a_step(parts: Parts) -> None:
    """Once for the forward pass, once for its repetition: nothing is fetched in vain but at the turn."""
    with trained(parts) as network:
        device = Device()
        streamed = Streamed(parts.denoiser, units_of(parts.denoiser), DEVICE, fetch=device)
        streamed.begin()
        others = device.fetched
        step(parts, network)
        weights = sum(len(list(unit.parameters())) for unit in units_of(parts.denoiser))
        assert 1.9 * weights < device.fetched - others < 2.4 * weights
        streamed.end()


def test_nothing_is_fetched_ahead_after_the_last_block(parts: Parts) -> None:
    """Of a picture, or of a step in which every block learns: until the next one begins, the room is another's."""
    with trained(parts, conv_dim=2) as network:
        device = Device()
        streamed = Streamed(parts.denoiser, units_of(parts.denoiser), DEVICE, fetch=device)
        streamed.begin()
        resident = device.now
        latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, parts.denoiser.config.cross_attention_dim)
        for _ in range(3):
            with torch.no_grad():
                parts.denoiser(latents, 5, encoder_hidden_states=text)
            assert device.now == resident
            step(parts, network)
            assert device.now == resident
        streamed.end()


def test_an_error_in_a_block_leaves_it_as_it_was(parts: Parts) -> None:
    with trained(parts) as network:
        loss, _ = step(parts, network)
        unit = units_of(parts.denoiser)[3]
        streamed = Streamed(parts.denoiser, units_of(parts.denoiser), DEVICE, fetch=Device())
        streamed.begin()
        hook = unit.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
        inner = next(child for child in unit.modules() if isinstance(child, nn.Linear))
        hook.remove()
        hook = inner.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
        with pytest.raises(RuntimeError, match="broken"):
            step(parts, network)
        hook.remove()
        assert step(parts, network)[0] == loss
        streamed.end()


def test_drawing_without_gradients(parts: Parts) -> None:
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, parts.denoiser.config.cross_attention_dim)
    with torch.no_grad():
        wanted = parts.denoiser(latents, 5, encoder_hidden_states=text).sample
        streamed = Streamed(parts.denoiser, units_of(parts.denoiser), DEVICE, fetch=Device())
        streamed.begin()
        assert torch.equal(parts.denoiser(latents, 5, encoder_hidden_states=text).sample, wanted)
        streamed.end()


@pytest.mark.skipif(FP8 is None, reason="this torch has no float8")
def test_fp8_is_near_and_is_gone_afterwards(parts: Parts) -> None:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 5, parts.denoiser.config.cross_attention_dim, generator=generator)

    def predicted() -> Tensor:
        with torch.no_grad():
            return parts.denoiser(latents, torch.tensor([10, 700]), encoder_hidden_states=text).sample

    exact = predicted()
    streamed = Streamed(parts.denoiser, units_of(parts.denoiser), DEVICE, fp8=True)
    streamed.begin()
    near = predicted()
    streamed.end()
    assert torch.equal(predicted(), exact) and not torch.equal(near, exact)
    assert torch.nn.functional.cosine_similarity(near.flatten(), exact.flatten(), dim=0) > 0.98


@pytest.mark.skipif(FP8 is None, reason="this torch has no float8")
def test_fp8_weights_are_a_byte_each_and_within_a_few_percent(parts: Parts) -> None:
    for name, weight in parts.denoiser.named_parameters():
        packed = Packed(lambda tensor: tensor.clone(), weight)
        again = packed.unpacked(weight.dtype)
        assert float((again - weight).norm()) <= 0.035 * float(weight.norm()), name
        assert packed.values.element_size() == (1 if weight.dim() >= 2 else 4)


@pytest.mark.skipif(FP8 is None, reason="this torch has no float8")
def test_gradients_through_fp8_are_those_of_the_weights_it_stands_for(parts: Parts) -> None:
    with trained(parts) as network:
        originals = [(unit, streamed_parameters(unit)) for unit in units_of(parts.denoiser)]
        streamed = Streamed(parts.denoiser, units_of(parts.denoiser), DEVICE, fp8=True)
        streamed.begin()
        loss, gradients = step(parts, network)
        streamed.end()
        for _, weights in originals:
            for weight in weights:
                weight.data = Packed(lambda tensor: tensor.clone(), weight).unpacked(weight.dtype)
        wanted, others = step(parts, network)
        assert loss == wanted and all(torch.equal(one, other) for one, other in zip(gradients, others))


def streamed_parameters(unit: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in unit.parameters() if not weight.requires_grad]


def test_the_next_block_is_fetched_after_the_present_one_was_given_to_the_device() -> None:
    """Before it, the copy would be in front of what the device has to compute, and nothing overlap."""
    parts = tiny_parts("sd1")
    units = units_of(parts.denoiser)
    log: list[str] = []

    def fetch(weight: torch.Tensor) -> torch.Tensor:
        log.append("fetch")
        return weight.clone()

    streamed = Streamed(parts.denoiser, units, DEVICE, fetch=fetch)
    streamed.begin()
    handles = [unit.register_forward_hook(lambda module, args, out: log.append("left")) for unit in units]
    for module in parts.denoiser.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            handles.append(module.register_forward_pre_hook(lambda module, args: log.append("compute")))
    try:
        for _ in range(2):  # the order is learnt in the first pass
            log.clear()
            with torch.no_grad():
                parts.denoiser(torch.randn(1, 4, 8, 8), 5, torch.randn(1, 77, 64))
    finally:
        for handle in handles:
            handle.remove()
        streamed.end()
    inside = "".join({"fetch": "f", "compute": "c", "left": "|"}[word] for word in log).split("|")[1:-1]
    blocks = [block for block in inside if "f" in block]
    assert len(blocks) > 3
    for block in blocks:
        assert "fc" not in block.strip("c"), "between two computations of a block nothing is fetched"
        assert block.endswith("f")
