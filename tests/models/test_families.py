"""Each family from end to end on a tiny model: encode, predict, learn, save, load, compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.family import Parts, SizeConditions
from atelier.models.registry import families, family_named
from atelier.models.views.view import view_parts
from tests.support.models_tiny import FAMILY_NAMES, modules_of, tiny_parts


def prediction(parts: Parts) -> torch.Tensor:
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    sizes = torch.tensor([[512, 640], [768, 512]])
    text = parts.family.encode(parts, ["a red cat", "a dog"], None, 75)
    conditions = SizeConditions(sizes, torch.tensor([[0, 8], [16, 0]]), sizes)
    return parts.family.predict(parts, noise, torch.tensor([10, 900]), text, conditions)


def test_families_are_found_by_name() -> None:
    assert [family.name for family in families()] == [*FAMILY_NAMES, "z_image"]
    assert family_named("sdxl").normalised(torch.ones(1)) == 0.13025
    assert family_named("sd2").architecture("v_prediction") == "stable-diffusion-v2-768-v"


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_one_step_learns_through_a_view(family: str) -> None:
    donor = tiny_parts(family)
    parts = view_parts(donor)
    modules = [parts.denoiser, *parts.text_encoders]
    for module in modules:
        module.requires_grad_(True)
    loss = prediction(parts).square().mean()
    loss.backward()
    gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for p in parts.text_encoders for gradient in [_grad_of_first_layer(p)])
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
    assert prediction(parts).square().mean() < loss
    assert all(p.grad is None for module in modules_of(donor).values() for p in module.parameters())


def _grad_of_first_layer(encoder: torch.nn.Module) -> torch.Tensor:
    named = dict(encoder.named_parameters())
    gradient = next(p.grad for name, p in named.items() if name.endswith("layers.0.mlp.fc1.weight"))
    assert gradient is not None
    return gradient


@pytest.mark.parametrize("ending", [".safetensors", ".ckpt", ""])
@pytest.mark.parametrize("family", FAMILY_NAMES)
@torch.no_grad()
def test_saved_and_loaded_it_computes_the_same(family: str, ending: str, tmp_path: Path) -> None:
    parts = tiny_parts(family)
    path = tmp_path / f"model{ending}"
    save_checkpoint(path, parts)
    loaded = load_checkpoint(path)
    assert loaded.info.family == family
    assert loaded.info.title == "model"
    for part, module in modules_of(parts).items():
        wanted = dict(module.named_parameters())
        found = dict(modules_of(loaded.parts)[part].named_parameters())
        assert wanted.keys() == found.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert torch.equal(prediction(loaded.parts), prediction(parts))
    assert [t.pad_token_id for t in loaded.parts.tokenizers] == [t.pad_token_id for t in parts.tokenizers]
    assert sorted(item.name for item in tmp_path.iterdir()) == [path.name]


@pytest.mark.parametrize("family", FAMILY_NAMES)
@torch.no_grad()
def test_diffusers_loads_the_folder_we_write(family: str, tmp_path: Path) -> None:
    parts = tiny_parts(family)
    save_checkpoint(tmp_path / "model", parts)
    pipe = DiffusionPipeline.from_pretrained(str(tmp_path / "model"))
    for part, module in modules_of(parts).items():
        found = dict(getattr(pipe, part).named_parameters())
        assert all(torch.equal(found[name], tensor) for name, tensor in module.named_parameters())
    assert pipe.tokenizer.pad_token_id == parts.tokenizers[0].pad_token_id
    assert type(pipe).__name__ == ("StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline")


def test_sizes_reach_sdxl_unrounded_in_half_precision() -> None:
    parts = tiny_parts("sdxl")
    parts.denoiser.bfloat16()
    text = parts.family.encode(parts, ["a cat"], None, 75)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    parts.denoiser.add_time_proj.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    size = torch.tensor([[1023, 1021]])
    parts.family.predict(parts, latents, torch.tensor([5]), text, SizeConditions(size, torch.zeros_like(size), size))
    assert seen[0].tolist() == [1023, 1021, 0, 0, 1023, 1021]
