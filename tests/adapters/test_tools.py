"""Exchange, resizing, checking, merging and extracting of LoRA files, and starting from one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from atelier.adapters.applied.apply import LoraUse, prepare_lora
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.network import build
from atelier.adapters.start import base_weights, dims_of, start_network
from atelier.adapters.tools.check import check_lora, family_of
from atelier.adapters.tools.exchange import to_kohya, to_peft
from atelier.adapters.tools.extract import extract_lora
from atelier.adapters.tools.low_rank import EXACT_UP_TO, of_matrix, of_product
from atelier.adapters.tools.merge import merged_lora, merged_weights
from atelier.adapters.tools.resize import resize
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from atelier.models.registry import family_named
from tests.adapters.test_apply import in_memory, output_of, trained, worn_output
from tests.support.adapters_models import predict, sd1_parts, sdxl_unet

LOCON = NetworkConfig(dim=4, alpha=2, conv_dim=3, conv_alpha=1)


def product(tensors: dict[str, Tensor], layer: str) -> Tensor:
    up, down = tensors[f"{layer}.lora_up.weight"].flatten(1), tensors[f"{layer}.lora_down.weight"].flatten(1)
    return (up @ down) * (tensors[f"{layer}.alpha"] / down.shape[0])


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


# -- low rank ---------------------------------------------------------------------------------------------------------


def test_the_product_is_cut_where_the_singular_values_say() -> None:
    up, down = matrix(20, 6), matrix(6, 30, seed=1)
    whole = up.double() @ down.double()
    u, values, vh = torch.linalg.svd(whole)
    small = of_product(up, down, 3)
    best = u[:, :3] @ torch.diag(values[:3]) @ vh[:3]
    assert torch.allclose((small.up @ small.down).double(), best, atol=1e-4)
    assert small.kept == pytest.approx(float(values[:3].square().sum() / values.square().sum()), abs=1e-9)
    half = of_product(up, down, 6, energy=0.5)
    enough = int((values.square().cumsum(0) < 0.5 * values.square().sum()).sum()) + 1
    assert half.rank == enough and half.kept >= 0.5
    assert of_product(up, down, 50).rank == 6


def test_large_matrices_are_cut_nearly_as_well_as_exactly() -> None:
    side = EXACT_UP_TO + 60
    whole = matrix(side, 8) @ matrix(8, side, seed=1) + 0.05 * matrix(side, side, seed=2)
    small = of_matrix(whole, 8)
    values = torch.linalg.svdvals(whole)
    best = values[8:].norm()
    state = torch.get_rng_state()
    assert (whole - small.up @ small.down).norm() < 1.001 * best
    assert torch.equal(of_matrix(whole, 8).up, small.up) and torch.equal(torch.get_rng_state(), state)


# -- exchange ---------------------------------------------------------------------------------------------------------


def test_to_peft_and_back_keeps_the_change() -> None:
    parts = sd1_parts()
    source = trained(parts, LOCON).state_tensors()
    peft = to_peft(parts, in_memory(source))
    assert not peft.unknown and len(peft.tensors) == 2 * len(source) // 3
    assert "unet.mid_block.attentions.0.proj_in.lora_A.weight" in peft.tensors
    assert "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight" in peft.tensors
    back = to_kohya(parts, in_memory(peft.tensors))
    assert set(back.tensors) == set(source)
    for key in source:
        if key.endswith(".alpha"):
            layer = key.removesuffix(".alpha")
            assert torch.allclose(product(back.tensors, layer), product(source, layer), atol=1e-6)
            assert back.tensors[key] == source[f"{layer}.lora_down.weight"].shape[0]


@pytest.mark.parametrize("dora", [False, True])
def test_diffusers_draws_the_same_with_the_exported_file(tmp_path: Path, dora: bool) -> None:
    pytest.importorskip("peft")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

    parts = sd1_parts()
    if dora:
        pytest.importorskip("lycoris")
        arguments = {"algo": "lora", "dora_wd": "True", "preset": "attn-mlp"}
        config = NetworkConfig(dim=4, alpha=2, module="lycoris.kohya", arguments=arguments)
    else:
        config = LOCON
    network = build(parts, config)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    expected = output_of(parts, network)
    peft = to_peft(parts, in_memory(network.state_tensors()))
    save_lora(tmp_path / "x.safetensors", peft.tensors, {})
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(32,)), text_encoder=parts.text_encoders[0], tokenizer=None,
        unet=parts.denoiser, scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.load_lora_weights(str(tmp_path), weight_name="x.safetensors")
    with torch.no_grad():
        theirs = predict(parts)
    assert (theirs - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))
    fresh = sd1_parts()
    assert torch.allclose(worn_output(fresh, LoraUse(in_memory(peft.tensors))), expected, atol=1e-4)


def test_kinds_that_peft_cannot_express_are_refused() -> None:
    pytest.importorskip("lycoris")
    parts = sd1_parts()
    loha = build(parts, NetworkConfig(module="lycoris.kohya", arguments={"algo": "loha"}))
    with pytest.raises(AtelierError, match="kind loha"):
        to_peft(parts, in_memory(loha.state_tensors()))


# -- resize -----------------------------------------------------------------------------------------------------------


def test_resize_keeps_all_it_can_at_the_same_weight() -> None:
    parts = sd1_parts()
    network = trained(parts, LOCON)
    source = network.state_tensors()
    same = resize(source, 8)
    assert same.kept == pytest.approx(1.0) and set(same.ranks.values()) == {4, 3} and same.label == "Dynamic"
    assert torch.allclose(worn_output(parts, LoraUse(in_memory(same.tensors))), output_of(parts, network), atol=1e-4)
    small = resize(source, 2, conv_rank=1, dtype=torch.float16)
    assert 0.2 < small.kept < 1 and set(small.ranks.values()) == {2, 1}
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    assert small.tensors[f"{layer}.lora_down.weight"].dtype == torch.float16
    assert small.tensors[f"{layer}.alpha"] == 1.0
    values = torch.linalg.svdvals(product(source, layer))
    error = (product(source, layer) - product(small.tensors, layer).float()).norm()
    assert error == pytest.approx(float(values[2:].norm()), rel=0.01)
    assert resize(trained(parts).state_tensors(), 4, energy=0.3).kept >= 0.3
    for wrong in ({"rank": 0}, {"rank": 2, "energy": 1.5}):
        with pytest.raises(AtelierError):
            resize(source, **wrong)  # type: ignore[arg-type]
    with pytest.raises(AtelierError, match="cannot be resized"):
        resize({"a.hada_w1_a": torch.ones(2, 2)}, 1)


# -- check ------------------------------------------------------------------------------------------------------------


def test_a_sound_file_fits_and_its_norms_are_those_of_its_change() -> None:
    parts = sd1_parts()
    tensors = trained(parts).state_tensors()
    tensors["lora_unet_elsewhere.alpha"] = torch.tensor(1.0)
    check = check_lora(in_memory(tensors), parts)
    assert check.usable and (check.kind, check.layout, check.matched) == ("lora", "kohya", 204)
    assert check.unmatched == ["lora_unet_elsewhere.alpha"] and check.ranks == {4: 204}
    assert "204 of 205 layers are used; 1 keys" in check.sentence()
    middle = [key.removesuffix(".alpha") for key in tensors if key.startswith("lora_unet_mid_block")]
    layers = {name.split(".")[0] for name in middle}
    expected = sum(float(product(tensors, layer).square().sum()) for layer in layers) ** 0.5
    assert check.norms["unet block 12"] == pytest.approx(expected, rel=1e-5)
    assert set(check.norms) == {"text_encoder", *(f"unet block {n}" for n in (1, 2, 4, 5, 7, 8, 12, *range(16, 25)))}


def test_damage_is_found() -> None:
    parts = sd1_parts()
    tensors = trained(parts).state_tensors()
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    tensors[f"{layer}.lora_up.weight"][0, 0] = float("nan")
    check = check_lora(in_memory(tensors), parts)
    assert not check.usable and check.broken == [f"{layer}.lora_up.weight"] and "NaN" in check.sentence()
    tensors[f"{layer}.lora_up.weight"] = torch.zeros(32, 4, 1, 1)
    assert check_lora(in_memory(tensors), parts).silent == [layer]
    tensors[f"{layer}.lora_up.weight"] = torch.zeros(7, 4)
    check = check_lora(in_memory(tensors), parts)
    assert not check.usable and layer in check.unfitting[0]
    assert check_lora(in_memory(tensors)).layers == 204


def test_the_family_is_told_from_the_shapes() -> None:
    for width, family in ((768, "sd1"), (1024, "sd2"), (2048, "sdxl"), (99, None)):
        assert family_of({"lora_unet_x_attn2_to_k.lora_down.weight": (8, width)}) == family
        assert family_of({"unet.x.attn2.to_v.lora_A.weight": (8, width)}) == family
    assert family_of({"lora_te2_a.alpha": ()}) == "sdxl"
    with torch.device("meta"):
        parts = Parts(family_named("sdxl"), sdxl_unet(), [])
    check = check_lora(in_memory(trained(sd1_parts()).state_tensors()), parts)
    assert not check.usable


# -- merge and extract ------------------------------------------------------------------------------------------------


def test_merged_into_the_weights_it_draws_as_when_worn() -> None:
    parts = sd1_parts()
    first, second = trained(parts, LOCON, seed=1), trained(parts, seed=2)
    uses = [LoraUse(in_memory(first.state_tensors()), 0.5, 0.25), LoraUse(in_memory(second.state_tensors()), -0.5, 1)]
    expected = worn_output(parts, *uses)
    before = {name: tensor.clone() for name, tensor in parts.denoiser.state_dict().items()}
    merged = list(merged_weights(parts, uses))
    assert all(torch.equal(tensor, before[name]) for name, tensor in parts.denoiser.state_dict().items())
    target = copy.deepcopy(parts)
    for weight in merged:
        root = target.denoiser if weight.part == "unet" else target.text_encoders[0]
        with torch.no_grad():
            root.get_submodule(weight.path).weight.copy_(weight.tensor)
    assert torch.allclose(predict(target), expected, atol=1e-4)


def test_several_merged_into_one_lora() -> None:
    parts = sd1_parts()
    files = [in_memory(trained(parts, LOCON, seed=seed).state_tensors()) for seed in (1, 2)]
    one = merged_lora(parts, [(files[0], 0.5), (files[1], -0.7)])
    expected = worn_output(parts, LoraUse(files[0], 0.5, 0.5), LoraUse(files[1], -0.7, -0.7))
    assert torch.allclose(worn_output(parts, LoraUse(in_memory(one))), expected, atol=1e-4)
    small = merged_lora(parts, [(files[0], 0.5), (files[1], -0.7)], rank=2)
    assert small["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"].shape[0] == 2


def test_what_was_merged_is_extracted_again() -> None:
    base, tuned = sd1_parts(), sd1_parts()
    network = trained(base, NetworkConfig(dim=3, alpha=3, conv_dim=3, conv_alpha=3, text_encoders=False))
    uses = [LoraUse(in_memory(network.state_tensors()))]
    for weight in merged_weights(base, uses):
        with torch.no_grad():
            tuned.denoiser.get_submodule(weight.path).weight.copy_(weight.tensor)
    tensors = extract_lora(tuned, base, rank=3, conv_rank=3)
    assert not any(key.startswith("lora_te") for key in tensors)
    assert torch.allclose(worn_output(base, LoraUse(in_memory(tensors))), predict(tuned), atol=2e-4)
    fewer = extract_lora(tuned, base, rank=16, conv_rank=16, energy=0.999999)
    assert max(tensor.shape[0] for key, tensor in fewer.items() if key.endswith("lora_down.weight")) == 3
    with pytest.raises(AtelierError, match="equal in every layer"):
        extract_lora(base, base, rank=2)


# -- starting from a file ---------------------------------------------------------------------------------------------


def test_going_on_from_a_file(tmp_path: Path) -> None:
    parts = sd1_parts()
    source = trained(parts, NetworkConfig(dim=3, alpha=2, text_encoders=False))
    path = save_lora(tmp_path / "x.safetensors", source.state_tensors(), {})
    config = NetworkConfig(dim=3, alpha=1)
    expected = output_of(parts, source)
    network = start_network(parts, config, 1, path)
    assert torch.allclose(output_of(parts, network), expected)
    assert len(network.layers) == 204
    with pytest.raises(AtelierError, match="dim_from_weights"):
        start_network(parts, NetworkConfig(dim=8), 1, path)
    taken = start_network(parts, NetworkConfig(dim=8), 1, path, dim_from_weights=True)
    assert len(taken.layers) == 192 and {(layer.dim, layer.alpha) for layer in taken.layers.values()} == {(3, 2.0)}
    assert start_network(parts, config, 1).config == config
    with pytest.raises(AtelierError, match="none of the layers"):
        start_network(parts, NetworkConfig(dim=3, unet=False), 1, path)
    with pytest.raises(AtelierError, match="no LoRA file"):
        start_network(parts, config, 1, tmp_path / "gone.safetensors")
    peft = to_peft(parts, read_lora(path)).tensors
    assert dims_of(to_kohya(parts, in_memory(peft)).tensors).popitem()[1] == (3, 3.0)


def test_a_lora_is_trained_over_another_that_the_base_wears(tmp_path: Path) -> None:
    parts = sd1_parts()
    worn = trained(parts, seed=6)
    path = save_lora(tmp_path / "style.safetensors", worn.state_tensors(), {})
    ready = base_weights(parts, [path], [0.5])
    network = trained(parts, seed=7)
    with ready[0].network.attached(), network.attached():
        out = predict(parts)
        out.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in ready[0].network.parameters())
    worn.multiplier = 0.5
    with torch.no_grad(), worn.attached(), network.attached():
        assert torch.allclose(predict(parts), out, atol=1e-5)


def test_the_name_of_a_prepared_file_is_its_own(tmp_path: Path) -> None:
    parts = sd1_parts()
    path = save_lora(tmp_path / "mine.safetensors", trained(parts).state_tensors(), {})
    assert prepare_lora(parts, read_lora(path)).name == "mine"
