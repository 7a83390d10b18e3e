"""LoRA files of every layout worn by a model; the same file in diffusers gives the same output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from atelier.adapters.applied.apply import LoraUse, applied, match_layers, prepare_lora
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import LoRAFile, read_lora, save_lora
from atelier.adapters.layers.names import LayerNames, ldm_names
from atelier.adapters.network import Network, build
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from atelier.models.registry import family_named
from tests.support.adapters_models import predict, sd1_parts, sdxl_unet, text_encoder


def trained(parts: Parts, config: NetworkConfig | None = None, seed: int = 4) -> Network:
    network = build(parts, config or NetworkConfig(dim=4, alpha=2), seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2, generator=draw)
    return network


def output_of(parts: Parts, network: Network) -> Tensor:
    with torch.no_grad(), network.attached():
        return predict(parts)


def in_memory(tensors: dict[str, Tensor], **metadata: str) -> LoRAFile:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return LoRAFile(Path("x.safetensors"), metadata, shapes, tensors)


def worn_output(parts: Parts, *uses: LoraUse) -> Tensor:
    with torch.no_grad(), applied(parts, list(uses)):
        return predict(parts)


@pytest.mark.parametrize("config", [NetworkConfig(dim=4, alpha=2), NetworkConfig(dim=3, conv_dim=2, conv_alpha=1)])
def test_a_saved_file_gives_the_trained_output(tmp_path: Path, config: NetworkConfig) -> None:
    parts = sd1_parts()
    before = predict(parts)
    network = trained(parts, config)
    path = save_lora(tmp_path / "x.safetensors", network.state_tensors(), {})
    expected = output_of(parts, network)
    file = read_lora(path)
    assert torch.equal(worn_output(parts, LoraUse(file)), expected)
    assert torch.equal(predict(parts), before)
    assert not any("forward" in vars(module) for module in parts.denoiser.modules())
    assert torch.equal(worn_output(parts, LoraUse(file, 0.0, 0.0)), before)


def test_several_at_once_with_their_own_weights() -> None:
    parts = sd1_parts()
    first, second = trained(parts, seed=1), trained(parts, NetworkConfig(dim=2), seed=2)
    together = worn_output(
        parts, LoraUse(in_memory(first.state_tensors()), 0.5, 0.25), LoraUse(in_memory(second.state_tensors()), -0.3, 1)
    )
    first.set_multipliers(0.5, 0.25)
    second.set_multipliers(-0.3, 1)
    with torch.no_grad(), first.attached(), second.attached():
        expected = predict(parts)
    assert torch.allclose(together, expected, atol=1e-6)


def to_peft(tensors: dict[str, Tensor], names: LayerNames, end: tuple[str, str] = ("lora_A", "lora_B")) -> dict:
    """PEFT's layout as diffusers writes it: dotted paths, the strength inside `B`."""
    found = {}
    for target in names.layers:
        if f"{target.name}.alpha" in tensors:
            down, up = (tensors[f"{target.name}.lora_{side}.weight"] for side in ("down", "up"))
            scale = float(tensors[f"{target.name}.alpha"]) / down.shape[0]
            found[f"{target.part}.{target.path}.{end[0]}.weight"] = down
            found[f"{target.part}.{target.path}.{end[1]}.weight"] = up * scale
    return found


def rename(change: Callable[[str], str]) -> Callable[[dict[str, Tensor], LayerNames], dict[str, Tensor]]:
    return lambda tensors, names: {change(key): tensor for key, tensor in tensors.items()}


def to_ldm(tensors: dict[str, Tensor], names: LayerNames, prefix: str = "lora_unet_") -> dict[str, Tensor]:
    unet = next(target for target in names.layers if target.part == "unet")
    assert unet is not None
    table = {f"lora_unet_{path}": prefix + ldm for path, ldm in ldm_names(sd1_parts().denoiser).items()}
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, rest = key.partition(".")
        renamed[f"{table.get(layer, layer)}.{rest}"] = tensor
    return renamed


LAYOUTS = {
    "kohya with an index": rename(lambda key: key.replace("lora_te_", "lora_te1_")),
    "text_model left out": rename(lambda key: key.replace("text_model_", "")),
    "LDM names": to_ldm,
    "lycoris prefix": rename(lambda key: key.replace("lora_unet_", "lycoris_")),
    "PEFT in diffusers": to_peft,
    "diffusers' older": lambda tensors, names: to_peft(tensors, names, ("lora.down", "lora.up")),
    "text_model in the path": lambda tensors, names: {
        key.replace("text_encoder.encoder", "text_encoder.text_model.encoder"): tensor
        for key, tensor in to_peft(tensors, names).items()
    },
    "named adapter": lambda tensors, names: to_peft(tensors, names, ("lora_A.default", "lora_B.default")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_others(layout: str) -> None:
    parts = sd1_parts()
    network = trained(parts, NetworkConfig(dim=4, alpha=2, conv_dim=4))
    names = LayerNames(parts)
    file = in_memory(LAYOUTS[layout](network.state_tensors(), names))
    layers, unknown, _ = match_layers(parts, file, names)
    assert not unknown and len(layers) == len(network.layers)
    assert torch.allclose(worn_output(parts, LoraUse(file)), output_of(parts, network), atol=1e-5)


def test_alphas_that_peft_keeps_in_the_metadata() -> None:
    parts = sd1_parts()
    network = trained(parts, NetworkConfig(dim=4, alpha=2))
    tensors = network.state_tensors()
    for name in network.layers:
        tensors[f"{name}.alpha"] = torch.tensor(4.0)
    config = {"unet.r": 4, "unet.lora_alpha": 2, "text_encoder.r": 4, "text_encoder.lora_alpha": 2}
    file = in_memory(to_peft(tensors, LayerNames(parts)), lora_adapter_metadata=json.dumps(config))
    assert torch.allclose(worn_output(parts, LoraUse(file)), output_of(parts, network), atol=1e-5)


@pytest.mark.parametrize("scheme", ["ldm", "diffusers"])
def test_both_naming_schemes_of_sdxl(scheme: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = Parts(family_named("sdxl"), sdxl_unet(), [text_encoder(2), text_encoder(2, projection=True)])
    network = trained(parts, NetworkConfig(dim=1, conv_dim=1))
    tensors = network.state_tensors()
    if scheme == "diffusers":
        renamed = {}
        for name, target in network.targets.items():
            flat = "lora_unet_" + target.path.replace(".", "_") if target.part == "unet" else name
            renamed.update({flat + key[len(name) :]: tensors[key] for key in tensors if key.startswith(name + ".")})
        assert set(renamed) != set(tensors)
        tensors = renamed
    layers, unknown, _ = match_layers(parts, in_memory(tensors))
    assert not unknown and {target.name for target, _ in layers} == set(network.layers)
    assert any(name.startswith("lora_te2_text_model_") for name in network.layers)


def test_what_does_not_fit_is_reported() -> None:
    parts = sd1_parts()
    tensors = trained(parts).state_tensors()
    tensors["lora_unet_nowhere.lora_up.weight"] = torch.ones(1, 1)
    tensors["rubbish"] = torch.ones(1)
    wrong = "lora_unet_mid_block_attentions_0_proj_out"
    tensors[f"{wrong}.lora_up.weight"] = torch.ones(5, 4, 1, 1)
    ready = prepare_lora(parts, in_memory(tensors))
    assert sorted(ready.unknown) == ["lora_unet_nowhere.lora_up.weight", "rubbish"]
    assert len(ready.unfitting) == 1 and wrong in ready.unfitting[0]
    assert "3 entries do not fit" in str(ready.report())
    assert prepare_lora(parts, in_memory(trained(parts).state_tensors())).report() is None


def test_a_file_for_another_model_is_refused() -> None:
    parts = sd1_parts()
    file = in_memory({"lora_unet_x.alpha": torch.ones(())}, ss_base_model_version="sdxl_base_v1-0")
    with pytest.raises(AtelierError, match="made for sdxl_base"), applied(parts, [LoraUse(file)]):
        raise AssertionError("not reached")
    assert not any("forward" in vars(module) for module in parts.denoiser.modules())


def test_a_half_precision_base() -> None:
    parts = sd1_parts(dtype=torch.bfloat16)
    network = trained(parts)
    out = worn_output(parts, LoraUse(in_memory(network.state_tensors(torch.float16))))
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out, output_of(parts, network), atol=0.05)


@pytest.mark.parametrize("conv", [None, 3])
def test_diffusers_loads_our_file_and_draws_the_same(tmp_path: Path, conv: int | None) -> None:
    pytest.importorskip("peft")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

    parts = sd1_parts()
    network = trained(parts, NetworkConfig(dim=4, alpha=2, conv_dim=conv, conv_alpha=1))
    path = save_lora(tmp_path / "x.safetensors", network.state_tensors(), {"ss_network_dim": "4"})
    expected = worn_output(parts, LoraUse(read_lora(path)))
    before = predict(parts)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(32,)), text_encoder=parts.text_encoders[0], tokenizer=None,
        unet=parts.denoiser,
        scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.load_lora_weights(str(tmp_path), weight_name=path.name)
    wrapped = [
        name
        for part in (parts.denoiser, parts.text_encoders[0])
        for name, module in part.named_modules()
        if hasattr(module, "lora_A") and len(module.lora_A)
    ]
    assert len(wrapped) == len(network.layers)
    with torch.no_grad():
        theirs = predict(parts)
    assert (theirs - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))
    assert (theirs - before).abs().max() > 1e-2
