"""A network of adapters on a small SD1: attaching, groups, tensors in and out, norms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atelier.adapters.config import NetworkConfig
from atelier.adapters.network import Network, build
from atelier.config.errors import AtelierError
from atelier.config.settings.schema import Settings
from tests.support.adapters_models import predict, sd1_parts

COUNT = 192 + 2 * 6


def randomise(network: Network, seed: int = 9) -> Network:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3, generator=draw)
    return network


def settings(**changes: Any) -> Settings:
    return Settings().replace(**changes)


def test_attached_changes_the_output_and_detached_nothing_is_left() -> None:
    parts = sd1_parts()
    before = predict(parts)
    weights = {name: tensor.clone() for name, tensor in parts.denoiser.state_dict().items()}
    attributes = {path: set(vars(module)) for path, module in parts.denoiser.named_modules()}
    network = build(parts, NetworkConfig(dim=4, alpha=2), seed=1)
    assert len(network.layers) == COUNT
    with network.attached():
        assert torch.equal(predict(parts), before)
        randomise(network)
        changed = predict(parts)
        assert not torch.allclose(changed, before)
        network.multiplier = 0.0
        assert torch.equal(predict(parts), before)
        network.multiplier = 0.5
        assert network.multiplier == 0.5
        assert not torch.allclose(predict(parts), changed)
        network.set_multipliers(unet=0.0, text_encoders=1.0)
        only_text = predict(parts)
        assert not torch.equal(only_text, before)
    assert torch.equal(predict(parts), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in parts.denoiser.state_dict().items())
    assert {path: set(vars(module)) for path, module in parts.denoiser.named_modules()} == attributes


def test_detached_after_an_error_too() -> None:
    parts = sd1_parts()
    network = build(parts, NetworkConfig())
    with pytest.raises(RuntimeError, match="stop"), network.attached():
        raise RuntimeError("stop")
    assert not any("forward" in vars(module) for module in parts.denoiser.modules())


def test_the_base_gets_no_gradient_and_the_adapters_do() -> None:
    parts = sd1_parts()
    network = randomise(build(parts, NetworkConfig(conv_dim=2)))
    with network.attached():
        predict(parts).square().mean().backward()
    assert all(parameter.grad is None for parameter in parts.denoiser.parameters())
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not silent


@pytest.mark.parametrize("config", [NetworkConfig(conv_dim=2), NetworkConfig(rank_dropout=0.3, module_dropout=0.3)])
def test_gradient_checkpointing_gives_the_same_gradients(config: NetworkConfig) -> None:
    parts = sd1_parts()
    network = randomise(build(parts, config))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            parts.denoiser.enable_gradient_checkpointing()
        parts.denoiser.train()
        network.zero_grad()
        torch.manual_seed(5)
        with network.attached():
            predict(parts).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    pairs = [pair for pair in zip(*gradients) if pair[0] is not None]
    assert len(pairs) > 100 and all(torch.allclose(first, second, atol=1e-6) for first, second in pairs)


def test_equal_seeds_equal_values_and_other_seeds_others() -> None:
    parts = sd1_parts()
    first, again, other = (build(parts, NetworkConfig(), seed).state_tensors() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"
    assert not torch.equal(first[name], other[name])
    other_name = "lora_unet_down_blocks_0_attentions_1_proj_in.lora_down.weight"
    assert not torch.equal(first["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], first[other_name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_saved_tensors_have_kohyas_names_shapes_and_alphas(dtype: torch.dtype) -> None:
    parts = sd1_parts()
    network = build(parts, NetworkConfig(dim=4, alpha=2, conv_dim=3, conv_alpha=1))
    tensors = network.state_tensors(dtype)
    assert len(tensors) == 3 * (COUNT + 86)
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    proj = "lora_unet_down_blocks_0_attentions_0_proj_in"
    assert tensors[f"{proj}.lora_down.weight"].shape == (4, 8, 1, 1)
    assert tensors[f"{proj}.lora_up.weight"].shape == (8, 4, 1, 1)
    assert tensors[f"{proj}.alpha"].shape == () and tensors[f"{proj}.alpha"] == 2
    conv = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert tensors[f"{conv}.lora_down.weight"].shape == (3, 8, 3, 3)
    assert tensors[f"{conv}.lora_up.weight"].shape == (8, 3, 1, 1)
    assert tensors[f"{conv}.alpha"] == 1
    shortcut = "lora_unet_down_blocks_1_resnets_0_conv_shortcut"
    assert tensors[f"{shortcut}.lora_down.weight"].shape == (4, 8, 1, 1)
    assert tensors["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"].shape == (32, 4)


def test_tensors_come_back_exactly_and_reports_name_what_does_not_fit() -> None:
    parts = sd1_parts()
    source = randomise(build(parts, NetworkConfig(dim=4, alpha=3)))
    with source.attached():
        expected = predict(parts)
    tensors = source.state_tensors()
    other = build(parts, NetworkConfig(dim=4, alpha=1), seed=8)
    report = other.load_tensors(tensors)
    assert not report.missing and not report.unexpected
    with other.attached():
        assert torch.equal(predict(parts), expected)
    gone = "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"
    del tensors[gone]
    tensors["lora_unet_nothing.alpha"] = torch.tensor(1.0)
    report = other.load_tensors(tensors)
    assert report.missing == [gone] and report.unexpected == ["lora_unet_nothing.alpha"]


def test_another_rank_is_refused_before_anything_changes() -> None:
    parts = sd1_parts()
    network = build(parts, NetworkConfig(dim=4))
    before = network.state_tensors()
    with pytest.raises(AtelierError, match="dim_from_weights"):
        network.load_tensors(build(parts, NetworkConfig(dim=5), seed=3).state_tensors())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_tensors().items())


def test_the_state_of_a_run_comes_back_in_full_precision() -> None:
    parts = sd1_parts()
    network = randomise(build(parts, NetworkConfig()))
    kept = {name: tensor.clone() for name, tensor in network.trained_tensors().items()}
    randomise(network, seed=10)
    network.load_trained_tensors(kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.trained_tensors().items())
    with pytest.raises(AtelierError, match="another rank"):
        build(parts, NetworkConfig(dim=9)).load_trained_tensors(kept)


def test_groups_start_with_the_text_encoder_and_a_rate_of_zero_drops_one() -> None:
    network = build(sd1_parts(), NetworkConfig())
    groups = network.parameter_groups(1e-4, [5e-5])
    assert [(group["name"], group["lr"]) for group in groups] == [("text_encoder", 5e-5), ("unet", 1e-4)]
    assert [len(group["params"]) for group in groups] == [2 * 12, 2 * 192]
    groups = network.parameter_groups(0.0, 5e-5)
    assert [group["name"] for group in groups] == ["text_encoder"]
    wanting = {name.split(".")[1][:8] for name, tensor in network.named_parameters() if tensor.requires_grad}
    assert wanting == {"lora_te_"}
    assert [group["name"] for group in network.parameter_groups(1e-4, None)] == ["text_encoder", "unet"]
    assert all(tensor.requires_grad for tensor in network.parameters())


def test_a_ratio_for_the_up_weights() -> None:
    config = NetworkConfig(arguments={"loraplus_lr_ratio": "16", "loraplus_text_encoder_lr_ratio": "4"})
    groups = build(sd1_parts(), config).parameter_groups(1e-4, [1e-5])
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {"text_encoder": 1e-5, "text_encoder up": 4e-5, "unet": 1e-4, "unet up": pytest.approx(1.6e-3)}


def test_max_norm_of_the_whole_network() -> None:
    network = randomise(build(sd1_parts(), NetworkConfig(dim=4, alpha=4)))
    report = network.apply_max_norm(0.5)
    norms = torch.stack([layer.delta().norm() for layer in network.layers.values()])
    assert norms.max() <= 0.5 * (1 + 1e-5)
    assert (
        report.scaled > 0
        and torch.allclose(report.largest, norms.max())
        and torch.allclose(report.mean, norms.mean(), rtol=1e-4)
    )


def test_settings_become_a_configuration() -> None:
    config = NetworkConfig.from_settings(
        settings(
            network_dim=16,
            network_alpha=8.0,
            network_dropout=0.1,
            network_args=["conv_dim=4", "conv_alpha=2", "rank_dropout=0.2", "loraplus_lr_ratio=8"],
        )
    )
    assert (config.dim, config.alpha, config.dropout) == (16, 8.0, 0.1)
    assert (config.conv_dim, config.conv_alpha, config.rank_dropout) == (4, 2.0, 0.2)
    assert config.arguments == {"loraplus_lr_ratio": "8"}
    only_unet = NetworkConfig.from_settings(settings(network_train_unet_only=True))
    assert only_unet.unet and not only_unet.text_encoders
    with pytest.raises(AtelierError, match="key=value"):
        NetworkConfig.from_settings(settings(network_args=["conv_dim"]))
    with pytest.raises(AtelierError, match="conv_dim is 'four'; it must be a number"):
        NetworkConfig.from_settings(settings(network_args=["conv_dim=four"]))


@pytest.mark.parametrize("key", ["network_dropout", "dropout", "rank_dropout", "module_dropout"])
@pytest.mark.parametrize("share", [1.0, 1.5, -0.1, float("nan")])
def test_a_dropout_that_leaves_nothing_is_refused(key: str, share: float) -> None:
    def configured(value: float) -> NetworkConfig:
        if key == "network_dropout":
            return NetworkConfig.from_settings(settings(network_dropout=value))
        return NetworkConfig.from_settings(settings(network_args=[f"{key}={value}"]))

    with pytest.raises(AtelierError, match=rf"{key}.* is .*it must be at least 0 and below 1"):
        configured(share)
    config = configured(0.99)
    assert 0.99 in (config.dropout, config.rank_dropout, config.module_dropout)


def test_nothing_to_train_is_said() -> None:
    with pytest.raises(AtelierError, match="nothing to train"):
        build(sd1_parts(), NetworkConfig(unet=False, text_encoders=False))


def test_plain_settings_objects_are_enough() -> None:
    plain = SimpleNamespace(
        network_dim=None,
        network_alpha=None,
        network_dropout=None,
        network_module=None,
        network_args=None,
        network_train_unet_only=False,
        network_train_text_encoder_only=False,
    )
    assert NetworkConfig.from_settings(plain).dim == 4
