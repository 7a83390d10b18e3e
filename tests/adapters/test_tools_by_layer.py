"""The tools on single layers: what is kept, from what a change is taken, in which ranks and precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from atelier.adapters.applied.apply import LoraUse
from atelier.adapters.layers.targets import find_targets
from atelier.adapters.tools.exchange import to_peft
from atelier.adapters.tools.extract import extract_lora
from atelier.adapters.tools.merge import merged_lora, merged_weights
from atelier.adapters.tools.resize import resize
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from atelier.models.registry import family_named
from tests.adapters.test_apply import in_memory
from tests.adapters.test_tools import matrix, product
from tests.support.adapters_models import sd1_parts, text_encoder

LINEAR = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
CONVOLUTION = "lora_unet_mid_block_attentions_0_proj_in"
"""A layer of the text encoder and a 1x1 convolution of the UNet."""


def one_layer(parts: Parts, layer: str, seed: int = 4, rank: int = 2) -> dict[str, Tensor]:
    """A LoRA of a single layer; its alpha is half its rank."""
    found = next(target for target in find_targets(parts) if target.name == layer)
    shape = found.module.weight.shape
    return {
        f"{layer}.lora_down.weight": matrix(rank, shape[1], seed).reshape(rank, *shape[1:]),
        f"{layer}.lora_up.weight": matrix(shape[0], rank, seed + 50).reshape(shape[0], rank, *[1] * (len(shape) - 2)),
        f"{layer}.alpha": torch.tensor(rank / 2),
    }


def module_path(parts: Parts, layer: str) -> str:
    return next(target.path for target in find_targets(parts) if target.name == layer)


@pytest.mark.parametrize("layer", [LINEAR, CONVOLUTION])
def test_a_dora_per_input_is_refused_for_peft(layer: str) -> None:
    """Of a layer of 16 inputs: the one per output is taken, as a row of PEFT's."""
    parts = sd1_parts()
    tensors = one_layer(parts, layer)
    outputs, inputs = tensors[f"{layer}.lora_up.weight"].shape[0], tensors[f"{layer}.lora_down.weight"].shape[1]
    ends = [1] * (tensors[f"{layer}.lora_up.weight"].ndim - 2)
    tensors[f"{layer}.dora_scale"] = torch.rand(outputs, 1, *ends)
    [magnitude] = [t for key, t in to_peft(parts, in_memory(tensors)).tensors.items() if "magnitude" in key]
    assert magnitude.shape == ((1, outputs, 1, 1) if ends else (outputs,))
    assert torch.equal(magnitude.flatten(), tensors[f"{layer}.dora_scale"].flatten())
    tensors[f"{layer}.dora_scale"] = torch.rand(1, inputs, *ends)
    with pytest.raises(AtelierError, match="per input, which PEFT cannot express"):
        to_peft(parts, in_memory(tensors))


def test_what_is_kept_counts_each_layer_by_its_strength() -> None:
    """The strength of a change goes with alpha over rank, squared: a strong layer's loss outweighs a weak one's."""
    tensors: dict[str, Tensor] = {}
    squares: dict[str, list[float]] = {}
    for layer, rank, alpha, seed in (("strong", 4, 8.0, 0), ("weak", 8, 0.5, 1), ("without alpha", 3, 0.0, 2)):
        tensors[f"{layer}.lora_up.weight"] = matrix(12, rank, seed)
        tensors[f"{layer}.lora_down.weight"] = matrix(rank, 10, seed + 10)
        tensors[f"{layer}.alpha"] = torch.tensor(alpha)
        whole = tensors[f"{layer}.lora_up.weight"].double() @ tensors[f"{layer}.lora_down.weight"].double()
        values = torch.linalg.svdvals(whole * (alpha / rank if alpha else 1.0)).square()
        squares[layer] = [float(values[:2].sum()), float(values.sum())]
    small = resize(tensors, 2)
    kept, all_of_it = (sum(column) for column in zip(*squares.values()))
    assert small.kept == pytest.approx(kept / all_of_it, rel=1e-6)
    assert {layer: float(small.tensors[f"{layer}.alpha"]) for layer in squares} == pytest.approx(
        {"strong": 4.0, "weak": 0.125, "without alpha": 2.0}
    )
    nothing = resize({key: tensor * 0 for key, tensor in tensors.items()}, 2)
    assert nothing.kept == 1.0


def test_a_dora_keeps_its_lengths_when_it_is_resized() -> None:
    tensors = {**one_layer(sd1_parts(), LINEAR), f"{LINEAR}.dora_scale": torch.rand(16, 1)}
    small = resize(tensors, 1)
    assert torch.equal(small.tensors[f"{LINEAR}.dora_scale"], tensors[f"{LINEAR}.dora_scale"])


@pytest.mark.parametrize("order", [1, -1])
def test_each_change_of_a_layer_is_taken_from_the_base(order: int) -> None:
    """A DoRA's rests on the weight that it is taken from: that is the base's, whatever is merged before."""
    parts = sd1_parts()
    base: Tensor = parts.text_encoders[0].get_submodule(module_path(parts, LINEAR)).weight.detach()
    dora, lora = one_layer(parts, LINEAR, seed=1), one_layer(parts, LINEAR, seed=2)
    length = torch.rand(16, 1, generator=torch.Generator().manual_seed(3)) + 0.5
    dora[f"{LINEAR}.dora_scale"] = length
    turned = base + product(dora, LINEAR)
    expected = base + 0.5 * (turned / turned.norm(dim=1, keepdim=True) * length - base) - 0.25 * product(lora, LINEAR)
    uses = [LoraUse(in_memory(dora), 9, 0.5), LoraUse(in_memory(lora), 9, -0.25)][::order]
    [merged] = merged_weights(parts, uses)
    assert merged.part == "text_encoder" and not torch.equal(merged.tensor, base)
    torch.testing.assert_close(merged.tensor, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_base_gives_half_weights_rounded_once(dtype: torch.dtype) -> None:
    parts = sd1_parts(dtype=dtype)
    base: Tensor = parts.text_encoders[0].get_submodule(module_path(parts, LINEAR)).weight.detach()
    tensors = [one_layer(parts, LINEAR, seed=seed) for seed in (1, 2, 3)]
    [merged] = merged_weights(parts, [LoraUse(in_memory(each)) for each in tensors])
    assert merged.tensor.dtype == dtype
    assert torch.equal(merged.tensor, sum((product(each, LINEAR) for each in tensors), base.float()).to(dtype))


def test_a_dora_is_not_merged_into_a_lora() -> None:
    parts = sd1_parts()
    lora = one_layer(parts, LINEAR, seed=1)
    dora = {**one_layer(parts, LINEAR, seed=2), f"{LINEAR}.dora_scale": torch.ones(16, 1)}
    for files in ([lora, dora], [dora], [dora, lora]):
        with pytest.raises(AtelierError, match="is a DoRA, which cannot be added to another LoRA"):
            merged_lora(parts, [(in_memory(each), 1.0) for each in files])


def test_kernels_are_extracted_in_ranks_of_their_own() -> None:
    """conv_rank is for 3x3 convolutions: layers of single points have the other one."""
    base, tuned = sd1_parts(), sd1_parts()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tuned.denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    tensors = extract_lora(tuned, base, rank=2, conv_rank=5)
    downs = {key: tensor for key, tensor in tensors.items() if key.endswith("lora_down.weight")}
    ranks = {(tensor.ndim == 4 and tensor.shape[2:] != (1, 1), tensor.shape[0]) for tensor in downs.values()}
    assert ranks == {(True, 5), (False, 2)}
    assert all(tensors[f"{key.split('.')[0]}.alpha"] == tensor.shape[0] for key, tensor in downs.items())
    without = extract_lora(tuned, base, rank=2)
    assert {tensor.shape[2:] for key, tensor in without.items() if key.endswith("lora_down.weight")} == {(), (1, 1)}


def test_models_that_do_not_belong_together_are_not_extracted() -> None:
    base = sd1_parts()
    other = replace(sd1_parts(), family=family_named("sdxl"))
    with pytest.raises(AtelierError, match="sdxl and sd1"):
        extract_lora(other, base, rank=2)
    wider = replace(sd1_parts(), text_encoders=[text_encoder(width=32)])
    with pytest.raises(AtelierError, match="another shape in the base"):
        extract_lora(wider, base, rank=2)
