"""Z-Image trained in the embedded host: its loss and gradients beside plain torch's, and runs of a few steps."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.func import functional_call

from atelier.adapters.applied.apply import match_layers
from atelier.adapters.applied.deltas import weight_change
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora
from atelier.adapters.layers.names import LayerNames
from atelier.adapters.network import Network, build
from atelier.adapters.start import start_network
from atelier.adapters.tools.check import check_lora
from atelier.config.errors import AtelierError
from atelier.hosts.contract import SampleRequest
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.jobs.control import Control
from atelier.models.family import Flow, Parts
from atelier.training.device.plan import Plan
from atelier.training.for_family import distilled_sentence, fitted
from atelier.training.objective.flow import RectifiedFlow
from atelier.training.objective.losses import LossOptions
from atelier.training.objective.objective import NoiseSample, diffusion_losses
from tests.support.families import z_image_tiny
from tests.support.training_fakes import MemoryRecord, Run, TinyHost, assert_same, run, tiny_job, write_pictures

pytestmark = pytest.mark.slow

NEAR = 1e-6
CAPTIONS = ["a cat", "zwx dog on the red cat"]
SETTINGS: dict[str, Any] = {
    "max_train_steps": 4, "sample_every_n_steps": 2, "sample_prompts": "a cat --s 2 --w 32 --h 32",
    "validation_split": 0.5, "validate_every_n_steps": 2, "bucket_reso_steps": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return z_image_tiny.tiny_z_image(tmp_path_factory.mktemp("base"))


@pytest.fixture
def parts(loaded: Parts) -> Parts:
    """The model, the test's own to change."""
    return replace(
        loaded,
        denoiser=copy.deepcopy(loaded.denoiser),
        text_encoders=[copy.deepcopy(loaded.text_encoders[0])],
        vae=copy.deepcopy(loaded.vae),
    )


def random_network(parts: Parts) -> Network:
    network = build(parts, NetworkConfig(dim=3, alpha=2.0), 1)
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    return network


class Reference:
    """diffusers' own transformer with separate q, k and v, and W + (alpha / rank) up down in place of each weight."""

    def __init__(self, lora: dict[str, Tensor]) -> None:
        self.transformer = z_image_tiny.modules()["transformer"]
        self.lora = {name: tensor.clone().requires_grad_(name.endswith("weight")) for name, tensor in lora.items()}

    def losses(self, latents: Tensor, noise: Tensor, sigma: Tensor, states: list[Tensor]) -> Tensor:
        weights = dict(self.transformer.named_parameters())
        for layer in {name.split(".")[0] for name in self.lora}:
            up, down = self.lora[f"{layer}.lora_up.weight"], self.lora[f"{layer}.lora_down.weight"]
            change = self.lora[f"{layer}.alpha"] / down.shape[0] * up @ down
            _, _, _, block, *rest = layer.split("_")
            place = f"layers.{block}."
            if rest[-1] == "qkv":
                for letter, rows in zip("qkv", change.chunk(3), strict=True):
                    weights[f"{place}attention.to_{letter}.weight"] = (
                        weights[f"{place}attention.to_{letter}.weight"] + rows
                    )
                continue
            name = (
                f"{place}attention.to_out.0.weight" if rest[-1] == "out" else f"{place}feed_forward.{rest[-1]}.weight"
            )
            weights[name] = weights[name] + change
        share = sigma[:, None, None, None]
        noisy = (1 - share) * latents + share * noise
        given = (list(noisy.unsqueeze(2)), 1 - sigma, states)
        out = functional_call(self.transformer, weights, given, {"return_dict": False})[0]
        velocity = -torch.stack(out).squeeze(2)
        return ((velocity - (noise - latents)) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients(parts: Parts, checkpointing: bool) -> None:
    random = torch.Generator().manual_seed(5)
    latents, noise = torch.randn(2, 2, 16, 4, 6, generator=random).unbind()
    sigma = torch.tensor([0.3, 0.85])
    text = parts.family.encode(parts, CAPTIONS, None, 75)
    network = random_network(parts)
    reference = Reference(network.state_tensors(None))
    expected = reference.losses(latents, noise, sigma, text.rows())
    expected.mean().backward()

    plan = Plan("no", gradient_checkpointing=checkpointing)
    with network.attached(), plan.applied(parts, torch.device("cpu")):
        process = RectifiedFlow(Flow(3.0))
        found = diffusion_losses(parts, process, LossOptions(), latents, NoiseSample(noise, noise, sigma), text)
        found.mean().backward()
    torch.testing.assert_close(found, expected, rtol=NEAR, atol=NEAR)
    for name, layer in network.layers.items():
        for key, parameter in layer.named_parameters():
            wanted = reference.lora[f"{name}.{key}.weight"].grad
            assert parameter.grad is not None and wanted is not None and float(wanted.abs().max()) > 0
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=NEAR)


def test_layers_and_their_names(parts: Parts, tmp_path: Path) -> None:
    """Attention and feed-forward of the main blocks, under the file's own names, which other programs' lead to."""
    network = build(parts, NetworkConfig(dim=2, alpha=1.0), 1)
    each = ("attention_qkv", "attention_out", "feed_forward_w1", "feed_forward_w2", "feed_forward_w3")
    assert set(network.layers) == {f"lora_unet_layers_{block}_{layer}" for block in (0, 1) for layer in each}
    for kind in ("lokr", "loha"):
        config = NetworkConfig(module="lycoris.kohya", dim=2, alpha=1.0, arguments={"algo": kind})
        assert set(build(parts, config, 1).layers) == set(network.layers)
    names = LayerNames(parts)
    for other in ("diffusion_model.layers.1.attention.qkv", "transformer.layers.1.attention.qkv"):
        found = names.find(other)
        assert found is not None and found.name == "lora_unet_layers_1_attention_qkv"
    assert names.find("diffusion_model.x_embedder") is not None


@pytest.mark.parametrize(
    ("form", "down", "up"),
    [
        ("diffusion_model.layers.0.{}", "lora_A.weight", "lora_B.weight"),
        ("transformer.layers.0.{}", "lora_A.weight", "lora_B.weight"),
        ("lora_unet_layers_0_{}", "lora_down.weight", "lora_up.weight"),
    ],
)
def test_files_of_other_programs_are_worn(parts: Parts, tmp_path: Path, form: str, down: str, up: str) -> None:
    """They have q, k and v apart, here without k, and each with an alpha of its own."""
    kohya = form.startswith("lora")
    changes, tensors = {}, {}
    for index, layer in enumerate(("attention.to_q", "attention.to_v", "attention.to_out.0", "feed_forward.w2")):
        width = 85 if layer.endswith("w2") else 32
        random = torch.Generator().manual_seed(index)
        a, b = torch.randn(2, width, generator=random), torch.randn(32, 2, generator=random)
        name = form.format(layer.replace(".", "_") if kohya else layer)
        tensors |= {f"{name}.{down}": a, f"{name}.{up}": b, f"{name}.alpha": torch.tensor(1.0 + index)}
        changes[layer] = (1.0 + index) / 2 * b @ a
    save_file(tensors, tmp_path / "other.safetensors")
    matched, unknown, _ = match_layers(parts, read_lora(tmp_path / "other.safetensors"))
    assert unknown == []
    found = {target.path: weight_change(given, target.module.weight) for target, given in matched}
    q, v = changes["attention.to_q"], changes["attention.to_v"]
    expected = {
        "layers.0.attention.qkv": torch.cat([q, torch.zeros(32, 32), v]),
        "layers.0.attention.out": changes["attention.to_out.0"],
        "layers.0.feed_forward.w2": changes["feed_forward.w2"],
    }
    assert found.keys() == expected.keys()
    for path, change in expected.items():
        torch.testing.assert_close(found[path], change, rtol=1e-5, atol=1e-5)


def trained(pictures: Path, root: Path, parts: Parts, on_step: Any = None, record: Any = None, **more: Any) -> Run:
    return run(tiny_job(pictures, **{**SETTINGS, **more}), root, on_step, TinyHost(root, parts), record)


def test_it_trains_draws_validates_and_resumes(parts: Parts, tmp_path: Path) -> None:
    """`run` sees to it that the base keeps its bits. Captions of a batch differ in length."""
    pictures = write_pictures(tmp_path / "pictures", 4)
    (pictures / "picture1.txt").write_text("zwx a red dog on the cat, user", encoding="utf-8")
    straight = trained(pictures, tmp_path / "a", parts)
    assert straight.outcome.state == "done" and len(straight.record.pictures) == 2
    moved = {name for name, tensor in straight.tensors.items() if "lora_up" in name and bool(tensor.abs().max() > 0)}
    assert len(moved) == 10 and all(name.startswith("lora_unet_layers_") for name in moved)
    assert straight.metadata["ss_base_model_version"] == "z_image"
    assert straight.metadata["modelspec.architecture"] == "z-image/lora"
    assert straight.outcome.path is not None
    checked = check_lora(read_lora(straight.outcome.path), parts)
    assert checked.usable and (checked.matched, checked.unmatched) == (10, [])
    again = start_network(parts, NetworkConfig(dim=2, alpha=2.0), 3, str(straight.outcome.path), False)
    assert_same(again.state_tensors(torch.float32), straight.tensors)

    def stop(step: int, control: Control) -> None:
        if step == 2:
            control.stop()

    first = trained(pictures, tmp_path / "b", parts, stop)
    second = trained(pictures, tmp_path / "b", parts, record=MemoryRecord(first.record.folder))
    assert_same(second.tensors, straight.tensors)


def test_the_embedded_host_draws_with_what_was_learnt(parts: Parts, tmp_path: Path) -> None:
    base = z_image_tiny.write_folder(tmp_path / "base")
    host = EmbeddedHost(tmp_path / "host", base, "cpu", None)
    info = host.loaded_model()
    assert info is not None and (info.family, info.refusal) == ("z_image", None)
    save_file(random_network(parts).state_tensors(), host.folders.lora / "learnt.safetensors")
    pictures = [host.sample(SampleRequest(f"a cat{tag}", "", 64, 64, 2, 1.0)) for tag in ("", " <lora:learnt:1>")]
    assert pictures[0] is not None and pictures[1] is not None
    assert pictures[0].tobytes() != pictures[1].tobytes()


def test_checkpointing_changes_no_bit(parts: Parts, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    plain = trained(pictures, tmp_path / "a", parts, validation_split=0.0, max_train_steps=1)
    saved = trained(
        pictures, tmp_path / "b", parts, validation_split=0.0, max_train_steps=1, gradient_checkpointing=True
    )
    assert_same(saved.tensors, plain.tensors)


def test_what_cannot_be_trained_is_said(parts: Parts, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    with pytest.raises(AtelierError, match=r"multiples of 16: change Resolution or Bucket step"):
        trained(pictures, tmp_path / "a", parts, resolution="40", min_bucket_reso=40, max_bucket_reso=40,
                bucket_reso_steps=8)  # fmt: skip
    with pytest.raises(AtelierError, match="Z-Image can only be trained by a LoRA"):
        fitted(tiny_job(pictures, train_whole_model=True), parts.family)
    assert distilled_sentence(parts.family, "z_image_bf16.safetensors") is None
    told = distilled_sentence(parts.family, "z_image_turbo_bf16.safetensors")
    assert told is not None and told.startswith("z_image_turbo_bf16.safetensors is called turbo: ")
    with pytest.raises(AtelierError, match="text encoder of Z-Image is not trained"):
        fitted(tiny_job(pictures, network_train_text_encoder_only=True), parts.family)
