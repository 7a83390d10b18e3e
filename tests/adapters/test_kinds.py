"""Kinds of adapter through LyCORIS, and blocks with their own ranks and rates."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from atelier.adapters.applied.apply import LoraUse, applied
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.kind import kind_name
from atelier.adapters.kinds.lora import LoRALayer
from atelier.adapters.layers.blocks import block_of, block_rates
from atelier.adapters.network import Network, build
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from atelier.models.registry import family_named
from tests.support.adapters_models import predict, sd1_parts, sdxl_unet

pytestmark = pytest.mark.slow

KINDS = {
    "lora": {"algo": "lora"},
    "locon with tucker": {"algo": "locon", "use_tucker": "True"},
    "locon with scalar": {"algo": "locon", "use_scalar": "True"},
    "dora": {"algo": "lora", "dora_wd": "True"},
    "dora on inputs": {"algo": "lora", "dora_wd": "True", "wd_on_output": "False"},
    "dora by its name": {"algo": "dora"},
    "loha": {"algo": "loha"},
    "loha with tucker": {"algo": "loha", "use_tucker": "True"},
    "lokr": {"algo": "lokr", "factor": "4"},
    "lokr in factors": {"algo": "lokr", "factor": "2", "decompose_both": "True"},
    "lokr whole": {"algo": "lokr", "full_matrix": "True"},
    "ia3": {"algo": "ia3", "preset": "ia3"},
    "oft": {"algo": "diag-oft", "constraint": "0.01"},
    "boft": {"algo": "boft", "rescaled": "True"},
}


def config_of(kind: str, **more: object) -> NetworkConfig:
    return NetworkConfig(dim=2, alpha=1, module="lycoris.kohya", arguments=dict(KINDS[kind]), **more)  # type: ignore[arg-type]


def build_kind(parts: Parts, kind: str, seed: int = 1) -> Network:
    if kind != "lora":
        pytest.importorskip("lycoris")
    try:
        return build(parts, config_of(kind), seed)
    except AtelierError as error:
        if "Install another version" in str(error):
            pytest.skip(str(error))
        raise


def disturb(network: Network, amount: float = 0.1) -> None:
    """Moves every weight a little from where it starts."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * amount)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_as_the_base_learns_and_is_worn_from_its_file(kind: str, tmp_path: Path) -> None:
    parts = sd1_parts()
    before = predict(parts)
    state = torch.get_rng_state()
    network = build_kind(parts, kind)
    assert torch.equal(torch.get_rng_state(), state)
    with network.attached():
        start = predict(parts)
        assert torch.allclose(start, before, atol=2e-5)
        disturb(network)
        trained = predict(parts)
        assert (trained - before).abs().max() > 1e-3
        trained.square().mean().backward()
        silent = [name for name, weight in network.named_parameters() if weight.grad is None]
        assert not silent
        network.multiplier = 0.0
        assert torch.equal(predict(parts), before)
        network.multiplier = 1.0
    assert torch.equal(predict(parts), before)
    assert not any("forward" in vars(module) for module in parts.denoiser.modules())
    assert all(parameter.grad is None for parameter in parts.denoiser.parameters())

    path = save_lora(tmp_path / "x.safetensors", network.state_tensors(), {})
    with torch.no_grad(), applied(parts, [LoraUse(read_lora(path))]) as ready:
        assert ready[0].report() is None
        assert torch.allclose(predict(parts), trained, atol=5e-5)

    again = build_kind(parts, kind, seed=2)
    report = again.load_tensors(read_lora(path).tensors)
    assert not report.missing and not report.unexpected
    with torch.no_grad(), again.attached():
        assert torch.allclose(predict(parts), trained, atol=5e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("lora", "locon"), ("dora", "dora"), ("loha", "loha"), ("lokr", "lokr"), ("ia3", "ia3"), ("oft", "oft"),
     ("boft", "boft")],
)  # fmt: skip
def test_files_tell_their_kind(kind: str, expected: str, tmp_path: Path) -> None:
    network = build_kind(sd1_parts(), kind)
    assert kind_name(config_of(kind)) == expected
    assert read_lora(save_lora(tmp_path / "x.safetensors", network.state_tensors(), {})).kind == expected


def test_the_kind_is_known_before_training() -> None:
    assert kind_name(NetworkConfig()) == "lora" and kind_name(NetworkConfig(conv_dim=2)) == "locon"
    assert kind_name(NetworkConfig(module="lycoris.kohya", conv_dim=0)) == "lora"


def test_a_version_that_cannot_compute_a_kind_is_told_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lycoris")
    from lycoris.modules.loha import LohaModule

    def broken(self: object, x: torch.Tensor, *args: object) -> torch.Tensor:
        raise RuntimeError("einsum")

    monkeypatch.setattr(LohaModule, "forward", broken)
    with pytest.raises(AtelierError, match=r"cannot compute the kind loha .*einsum"):
        build(sd1_parts(), config_of("loha"))


def test_equal_seeds_give_equal_values() -> None:
    pytest.importorskip("lycoris")
    parts = sd1_parts()
    first, again, other = (build(parts, config_of("loha"), seed).state_tensors() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_plain_locon_of_lycoris_is_our_own_and_covers_its_layers() -> None:
    parts = sd1_parts()
    network = build(parts, config_of("lora"))
    assert all(isinstance(layer, LoRALayer) for layer in network.layers.values())
    assert {"lora_unet_conv_in", "lora_unet_conv_out", "lora_unet_time_embedding_linear_1"} <= set(network.layers)
    assert len(network.layers) == 278 + 4 + 12
    stable = build(parts, NetworkConfig(dim=4, alpha=2, module="lycoris.kohya", arguments={"rs_lora": "True"}))
    assert all(math.isclose(layer.factor, 2 / math.sqrt(4)) for layer in stable.layers.values())


@pytest.mark.parametrize(
    ("preset", "count"),
    [("full", 294), ("full-lin", 192 + 22 + 14 + 2 + 12), ("attn-mlp", 192 + 12), ("attn-only", 16 * 8 + 8),
     ("unet-only", 282), ("unet-transformer-only", 192), ("unet-convblock-only", 86 + 2), ("ia3", 16 * 5 + 2 * 3)],
)  # fmt: skip
def test_presets_choose_their_layers(preset: str, count: int) -> None:
    config = NetworkConfig(dim=2, module="lycoris.kohya", arguments={"algo": "lora", "preset": preset})
    assert len(build(sd1_parts(), config).layers) == count


def test_what_cannot_be_trained_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = sd1_parts()

    def refused(text: str, module: str = "lycoris.kohya", **arguments: str) -> None:
        with pytest.raises(AtelierError, match=text):
            build(parts, NetworkConfig(module=module, arguments=arguments))

    refused("'networks.dylora' cannot be trained", module="networks.dylora")
    refused("algo=full cannot", algo="full")
    refused("preset=mine is not known", algo="lora", preset="mine")
    refused("train_norm", algo="lora", train_norm="True")
    refused("factor is 'x'", algo="lokr", factor="x")
    monkeypatch.setitem(sys.modules, "lycoris.modules.loha", None)
    refused("pip install lycoris-lora", algo="loha")


def test_norms_are_limited_for_kinds_that_have_one() -> None:
    pytest.importorskip("lycoris")
    for kind in ("loha", "lokr"):
        network = build_kind(sd1_parts(), kind)
        disturb(network, 0.5)
        report = network.apply_max_norm(0.5)
        assert report.scaled > 0 and report.largest <= 0.5 * 1.001
        changes = [layer.inner.get_diff_weight(1.0)[0].norm() for layer in network.layers.values()]
        assert max(changes) <= 0.5 * 1.001
    with pytest.raises(AtelierError, match="scale_weight_norms"):
        build_kind(sd1_parts(), "oft").apply_max_norm(0.5)


# -- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in", 1),
        ("lora_unet_down_blocks_0_downsamplers_0_conv", 3),
        ("lora_unet_down_blocks_2_resnets_1_conv1", 8),
        ("lora_unet_mid_block_attentions_0_proj_in", 12),
        ("lora_unet_up_blocks_0_resnets_0_conv1", 13),
        ("lora_unet_up_blocks_3_attentions_2_proj_in", 24),
        ("lora_unet_input_blocks_4_1_proj_in", 5),
        ("lora_unet_middle_block_1_proj_in", 11),
        ("lora_unet_output_blocks_5_1_proj_in", 18),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", None),
    ],
)
def test_blocks_are_counted_as_kohya_counts_them(name: str, block: int | None) -> None:
    assert block_of(name) == block


def test_ranks_and_alphas_of_blocks() -> None:
    dims = [2] * 25
    dims[1], dims[12], dims[2] = 3, 5, 0
    arguments = {"block_dims": ",".join(map(str, dims)), "block_alphas": ",".join(["1.5"] * 25)}
    network = build(sd1_parts(), NetworkConfig(dim=9, alpha=9, arguments=arguments))
    layers = network.layers
    assert layers["lora_unet_down_blocks_0_attentions_0_proj_in"].dim == 3
    assert layers["lora_unet_mid_block_attentions_0_proj_in"].dim == 5
    assert "lora_unet_down_blocks_0_attentions_1_proj_in" not in layers
    assert {layer.alpha for name, layer in layers.items() if name.startswith("lora_unet")} == {1.5}
    assert layers["lora_te_text_model_encoder_layers_0_mlp_fc1"].dim == 9
    assert not any("resnets" in name for name in layers)
    arguments |= {"conv_block_dims": ",".join(["4"] * 25), "conv_block_alphas": ",".join(["2"] * 25)}
    layers = build(sd1_parts(), NetworkConfig(dim=9, arguments=arguments)).layers
    conv = layers["lora_unet_down_blocks_1_resnets_0_conv1"]
    assert (conv.dim, conv.alpha) == (4, 2.0)
    with pytest.raises(AtelierError, match="block_dims has 3 numbers; this model family needs 25"):
        build(sd1_parts(), NetworkConfig(arguments={"block_dims": "1,2,3"}))
    with torch.device("meta"):
        parts = Parts(family_named("sdxl"), sdxl_unet(), [])
    config = NetworkConfig(arguments={"block_dims": ",".join(["0"] * 11 + ["7"] + ["0"] * 11)})
    assert {name[:24] for name in build(parts, config).layers} == {"lora_unet_middle_block_1"}


def test_rates_of_blocks() -> None:
    parts = sd1_parts()
    arguments = {"down_lr_weight": "0," * 11 + "0", "mid_lr_weight": "0.5", "up_lr_weight": "sine+.25"}
    network = build(parts, NetworkConfig(arguments=arguments))
    assert not any("down_blocks" in name for name in network.layers)
    rates = {group["name"]: group["lr"] for group in network.parameter_groups(1.0, 0.1)}
    assert rates["text_encoder"] == 0.1 and rates["unet block 12"] == 0.5
    assert math.isclose(rates["unet block 24"], 1.25)
    assert math.isclose(rates["unet block 16"], math.sin(math.pi * 3 / 11 / 2) + 0.25)
    count = sum(len(group["params"]) for group in network.parameter_groups(1.0, 0.1))
    assert count == len(list(network.parameters()))


def test_rate_lists_are_filled_cut_and_thresholded() -> None:
    rates = block_rates({"mid_lr_weight": "0.1", "up_lr_weight": "0.5", "block_lr_zero_threshold": "0.2"}, "sd1")
    assert rates == [1.0] * 12 + [0.0] + [0.5] + [1.0] * 11
    assert block_rates({"down_lr_weight": "reverse_linear"}, "sdxl")[:3] == [1.0, 1.0, 0.875]  # type: ignore[index]
    assert len(block_rates({"down_lr_weight": "zeros"}, "sdxl") or []) == 23
    assert block_rates({}, "sd1") is None
    with pytest.raises(AtelierError, match="up_lr_weight is 'wave'"):
        block_rates({"up_lr_weight": "wave"}, "sd1")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["dora", "dora on inputs", "loha", "lokr", "oft"])
def test_every_kind_learns_over_a_base_in_half_precision(kind: str, half: torch.dtype) -> None:
    parts = sd1_parts()
    parts.denoiser.to(half)
    network = build_kind(parts, kind)
    disturb(network)
    layer = next(layer for name, layer in network.layers.items() if name.endswith("attn1_to_q"))
    base = network.targets[next(name for name in network.layers if name.endswith("attn1_to_q"))].module
    with network.attached(), torch.autocast("cpu", dtype=torch.bfloat16):
        base(torch.randn(2, 3, base.in_features)).float().square().sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters() if parameter.requires_grad]
    assert gradients and all(gradient is not None and float(gradient.abs().max()) > 0 for gradient in gradients)


def test_the_generators_of_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lycoris")
    seeded: list[int] = []
    parts = sd1_parts()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    first = build(parts, config_of("loha"), 5)
    again = build(parts, config_of("loha"), 5)
    assert seeded == [] and torch.equal(torch.get_rng_state(), before)
    drawn = again.state_tensors()
    for name, tensor in first.state_tensors().items():
        assert torch.equal(tensor, drawn[name])
