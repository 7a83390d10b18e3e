"""The LoRA layer against the same formula in plain torch: output, gradients, dropouts, precision, detaching."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.adapters.kinds.lora import LoRALayer
from atelier.adapters.layers.attachment import Chain

LAYERS = {
    "linear": lambda: nn.Linear(10, 7),
    "linear without bias": lambda: nn.Linear(10, 7, bias=False),
    "conv 1x1": lambda: nn.Conv2d(10, 7, 1),
    "conv 3x3": lambda: nn.Conv2d(10, 7, 3, padding=1),
    "conv 3x3 with stride": lambda: nn.Conv2d(10, 7, 3, stride=2, padding=1),
}


def layer_of(kind: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(3)
    return LAYERS[kind]().to(dtype).requires_grad_(False)


def lora_of(base: nn.Module, dim: int = 3, alpha: float | None = 1.5, **more: float) -> LoRALayer:
    """A LoRA with an `up` that is not zero."""
    lora = LoRALayer(base, dim, alpha, generator=torch.Generator().manual_seed(5), **more)
    with torch.no_grad():
        lora.lora_up.normal_(generator=torch.Generator().manual_seed(6))
    return lora


def input_for(base: nn.Module, dtype: torch.dtype = torch.float64) -> Tensor:
    shape = (2, 10, 6, 6) if isinstance(base, nn.Conv2d) else (2, 5, 10)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)


def by_hand(base: nn.Module, x: Tensor, down: Tensor, up: Tensor, factor: float) -> Tensor:
    """The base with the whole product added to its weight: no low rank, no addition of outputs."""
    weight = base.weight + factor * (up.flatten(1) @ down.flatten(1)).view(base.weight.shape)
    if isinstance(base, nn.Linear):
        return F.linear(x, weight, base.bias)
    return F.conv2d(x, weight, base.bias, base.stride, base.padding)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", LAYERS)
def test_output_and_gradients(kind: str, dtype: torch.dtype) -> None:
    base = layer_of(kind, dtype)
    lora = lora_of(base).to(dtype)
    lora.set_multiplier(0.8)
    factor = 0.8 * 1.5 / 3
    x, twin = input_for(base, dtype).requires_grad_(), input_for(base, dtype).requires_grad_()
    down, up = (tensor.detach().clone().requires_grad_() for tensor in (lora.lora_down, lora.lora_up))
    lora.attach()
    out, expected = base(x), by_hand(base, twin, down, up, factor)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64).to(dtype)
    (out * pull).sum().backward()
    (expected * pull).sum().backward()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert out.shape == expected.shape
    for ours, reference in (
        (out, expected),
        (x.grad, twin.grad),
        (lora.lora_down.grad, down.grad),
        (lora.lora_up.grad, up.grad),
    ):
        assert ours is not None and reference is not None
        scale = reference.abs().max().item()
        assert (ours - reference).abs().max().item() <= tolerance * max(1.0, scale)
    assert base.weight.grad is None


@pytest.mark.parametrize("kind", LAYERS)
def test_initial_values_change_nothing_and_come_from_the_seed(kind: str) -> None:
    base = layer_of(kind, torch.float32)
    x = input_for(base, torch.float32)
    plain = base(x)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = (LoRALayer(base, 4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.lora_down, second.lora_down) and not first.lora_up.any()
    fan_in = base.weight[0].numel()
    assert first.lora_down.abs().max() <= 1 / math.sqrt(fan_in)
    assert 0.4 / math.sqrt(fan_in) < first.lora_down.std() < 0.75 / math.sqrt(fan_in)
    first.attach()
    assert torch.equal(base(x), plain)


def test_the_initial_distribution_is_that_of_kaiming_uniform() -> None:
    base = nn.Linear(1024, 8)
    ours = LoRALayer(base, 512, generator=torch.Generator().manual_seed(1)).lora_down.detach()
    torch.manual_seed(1)
    reference = torch.empty_like(ours)
    nn.init.kaiming_uniform_(reference, a=math.sqrt(5))
    assert abs(ours.std() / reference.std() - 1) < 0.01
    assert abs(ours.abs().max() / reference.abs().max() - 1) < 0.001


@pytest.mark.parametrize("alpha", [None, 0])
def test_alpha_none_or_zero_is_the_rank(alpha: float | None) -> None:
    lora = LoRALayer(nn.Linear(4, 4), 3, alpha)
    assert lora.alpha == 3.0 and lora.factor == 1.0


@pytest.mark.parametrize("kind", LAYERS)
def test_multiplier_zero_is_the_base_bit_for_bit_and_detach_leaves_nothing(kind: str) -> None:
    base = layer_of(kind, torch.float32)
    x = input_for(base, torch.float32)
    plain, attributes = base(x), set(vars(base))
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    lora = lora_of(base)
    lora.attach()
    assert isinstance(base.forward, Chain) and not torch.equal(base(x), plain)
    lora.set_multiplier(0.0)
    assert torch.equal(base(x), plain)
    lora.set_multiplier(1.0)
    lora.detach()
    assert set(vars(base)) == attributes
    assert torch.equal(base(x), plain)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in base.state_dict().items())


def test_several_leave_in_any_order_and_a_foreign_forward_comes_back() -> None:
    base = layer_of("linear")
    x = input_for(base)
    plain = base(x)

    def foreign(value: Tensor) -> Tensor:
        return 2 * type(base).forward(base, value)

    base.forward = foreign
    first, second = lora_of(base), lora_of(base, dim=2)
    first.attach()
    second.attach()
    both = base(x)
    first.detach()
    only_second = base(x)
    delta = F.linear(x, second.delta().double())
    assert torch.allclose(only_second, 2 * plain + delta)
    assert torch.allclose(both - only_second, F.linear(x, first.delta().double()))
    second.detach()
    assert base.forward is foreign
    second.detach()
    assert base.forward is foreign


@pytest.mark.parametrize("kind", LAYERS)
def test_fp32_adapter_beside_a_bf16_base_and_under_autocast(kind: str) -> None:
    exact = layer_of(kind)
    lora = lora_of(exact)
    x = input_for(exact)
    expected = by_hand(exact, x, lora.lora_down.double(), lora.lora_up.double(), lora.factor)

    half = layer_of(kind, torch.bfloat16)
    twin = lora_of(half)
    twin.attach()
    out = half(x.bfloat16())
    assert out.dtype == torch.bfloat16 and twin.lora_down.dtype == torch.float32
    assert (out - expected).abs().max() < 0.06 * expected.abs().max()

    single = layer_of(kind, torch.float32)
    third = lora_of(single)
    third.attach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = single(x.float())
    assert out.dtype == torch.bfloat16
    assert (out - expected).abs().max() < 0.06 * expected.abs().max()
    out.float().sum().backward()
    assert third.lora_up.grad is not None and third.lora_up.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", ["linear", "conv 3x3"])
def test_dropout_keeps_the_mean_and_drops_single_values(kind: str) -> None:
    base = layer_of(kind)
    lora = lora_of(base, dropout=0.25).double()
    x = input_for(base)
    plain = base(x)
    lora.attach()
    torch.manual_seed(0)
    shares = torch.stack([base(x) - plain for _ in range(1500)])
    lora.eval()
    exact = base(x) - plain
    assert torch.equal(base(x) - plain, exact)
    error = (shares.mean(0) - exact).abs().max() / exact.abs().max()
    assert error < 0.06
    assert shares.std(0).max() > 0.05 * exact.abs().max()


@pytest.mark.parametrize("kind", ["linear", "conv 3x3"])
def test_rank_dropout_drops_whole_ranks_of_a_picture(kind: str) -> None:
    base = layer_of(kind)
    lora = lora_of(base, dim=1, rank_dropout=0.3).double()
    x = input_for(base)
    plain = base(x)
    lora.attach()
    lora.eval()
    exact = base(x) - plain
    lora.train()
    torch.manual_seed(0)
    kept = 0
    for _ in range(400):
        share = base(x) - plain
        for picture in range(2):
            if share[picture].abs().max() < 1e-12:
                continue
            kept += 1
            assert torch.allclose(share[picture], exact[picture] / 0.7)
    assert abs(kept / 800 - 0.7) < 0.06


def test_module_dropout_leaves_the_base_alone_as_often_as_asked() -> None:
    base = layer_of("linear")
    lora = lora_of(base, module_dropout=0.4)
    x = input_for(base)
    plain = base(x)
    lora.attach()
    torch.manual_seed(0)
    dropped = sum(torch.equal(base(x), plain) for _ in range(500))
    assert abs(dropped / 500 - 0.4) < 0.08
    lora.eval()
    assert not any(torch.equal(base(x), plain) for _ in range(20))


@pytest.mark.parametrize("kind", LAYERS)
def test_max_norm_against_the_whole_product(kind: str) -> None:
    lora = lora_of(layer_of(kind, torch.float32))
    norm = lora.delta().norm()
    kept, scaled = lora.limit_norm(float(norm) * 2)
    assert not scaled and abs(kept / norm - 1) < 1e-5
    limit = float(norm) / 3
    direction = lora.delta() / norm
    now, scaled = lora.limit_norm(limit)
    assert scaled and abs(now / limit - 1) < 1e-5
    assert torch.allclose(lora.delta() / limit, direction, atol=1e-5)
