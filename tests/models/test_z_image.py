"""Z-Image beside diffusers' own classes and pipeline, on a tiny model of random weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from atelier.config.errors import AtelierError
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.families.z_image.names import own_path
from atelier.models.family import Parts
from atelier.models.registry import family_named, recognise
from atelier.models.sampling.sample import sample
from atelier.models.views.view import view_parts
from tests.support.families import z_image_tiny

CAPTIONS = ["a cat", "zwx dog on the red cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return z_image_tiny.write_folder(tmp_path_factory.mktemp("base") / "z-image")


@pytest.fixture(scope="module")
def parts(folder: Path) -> Parts:
    return load_checkpoint(folder).parts


@pytest.fixture(scope="module")
def pipeline() -> Any:
    from diffusers import ZImagePipeline

    return ZImagePipeline(scheduler=None, tokenizer=z_image_tiny.tokenizer(), **z_image_tiny.modules())  # type: ignore[arg-type]


def own_tensors(parts: Parts) -> dict[str, torch.Tensor]:
    """The transformer under the names of the released file."""
    return {own_path(name): tensor.contiguous() for name, tensor in parts.denoiser.state_dict().items()}


def test_a_folder_is_read(parts: Parts) -> None:
    assert parts.family is family_named("z_image")
    assert sum(p.numel() for p in parts.denoiser.parameters()) == sum(
        p.numel() for p in z_image_tiny.modules()["transformer"].parameters()
    )


def test_captions_are_those_of_the_pipeline(parts: Parts, pipeline: Any) -> None:
    pipeline.tokenizer.apply_chat_template = lambda messages, **_: (
        f"<|im_start|>user\n{messages[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    )
    expected = pipeline._encode_prompt(list(CAPTIONS), torch.device("cpu"))
    found = parts.family.encode(parts, CAPTIONS, None, 75)
    assert found.lengths == tuple(len(states) for states in expected)
    for states, wanted in zip(found.rows(), expected, strict=True):
        torch.testing.assert_close(states, wanted, rtol=1e-5, atol=1e-6)


def test_the_prediction_is_diffusers_turned_round(parts: Parts) -> None:
    """Captions of different lengths, and a picture whose tokens are no multiple of 32."""
    theirs = z_image_tiny.modules()["transformer"]
    latents = torch.randn(2, 16, 6, 10, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.2, 0.9])
    text = parts.family.encode(parts, CAPTIONS, None, 75)
    found = parts.family.predict(parts, latents, sigma, text, None)
    expected = theirs(list(latents.unsqueeze(2)), 1 - sigma, text.rows(), return_dict=False)[0]
    torch.testing.assert_close(found, -torch.stack(expected).squeeze(2), rtol=1e-5, atol=1e-5)
    alone = parts.family.predict(
        parts, latents[:1], sigma[:1], parts.family.encode(parts, CAPTIONS[:1], None, 75), None
    )
    torch.testing.assert_close(found[:1], alone, rtol=1e-5, atol=1e-5)


def test_pictures_are_scaled_as_in_the_pipeline(parts: Parts, pipeline: Any) -> None:
    pixels = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert parts.vae is not None
    mean, _ = parts.family.posterior(parts.vae, pixels)
    config = pipeline.vae.config
    expected = (pipeline.vae.encode(pixels).latent_dist.mean - config.shift_factor) * config.scaling_factor
    found = parts.family.normalised(mean)
    assert found.shape == (1, 16, 4, 6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.family.denormalised(found), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_transformer_alone_is_recognised_and_read(parts: Parts, tmp_path: Path, prefix: str) -> None:
    tensors = {prefix + name: tensor for name, tensor in own_tensors(parts).items()}
    assert "layers.0.attention.qkv.weight" in {name.removeprefix(prefix) for name in tensors}
    assert recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()}).name == "z_image"
    save_file(tensors, str(tmp_path / "z.safetensors"))
    loaded = load_checkpoint(tmp_path / "z.safetensors", parts=frozenset(("unet",))).parts
    assert loaded.text_encoders == [] and loaded.vae is None
    for name, tensor in loaded.denoiser.state_dict().items():
        assert torch.equal(tensor, parts.denoiser.state_dict()[name])


def test_files_that_cannot_be_used_say_what_is_missing(parts: Parts, tmp_path: Path) -> None:
    tensors = own_tensors(parts)
    save_file(tensors, str(tmp_path / "z.safetensors"))
    with pytest.raises(AtelierError, match=r"^z.safetensors: It is a single file .* load a diffusers folder with"):
        load_checkpoint(tmp_path / "z.safetensors")
    save_file({**tensors, "layers.0.attention.qkv.comfy_quant": torch.zeros(1)}, str(tmp_path / "q.safetensors"))
    with pytest.raises(AtelierError, match="weights are quantised"):
        load_checkpoint(tmp_path / "q.safetensors", parts=frozenset(("unet",)))


@pytest.mark.parametrize("part", ["tokenizer", "vae", "text_encoder"])
def test_a_folder_that_is_not_whole_names_what_is_missing(folder: Path, tmp_path: Path, part: str) -> None:
    shutil.copytree(folder, tmp_path / "base", ignore=shutil.ignore_patterns(part))
    with pytest.raises(AtelierError, match=part):
        load_checkpoint(tmp_path / "base")


def test_lumina_is_not_taken_for_it(parts: Parts) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in own_tensors(parts).items() if name != "x_pad_token"}
    with pytest.raises(AtelierError, match="Lumina"):
        recognise(shapes)


def test_views_share_the_memory_of_the_base(parts: Parts) -> None:
    views = view_parts(parts)
    for module, lent in zip(parts.modules, views.modules, strict=True):
        own = {name: tensor.data_ptr() for name, tensor in module.named_parameters()}
        assert own == {name: tensor.data_ptr() for name, tensor in lent.named_parameters()}
    text = [part.family.encode(part, CAPTIONS, None, 75).hidden for part in (parts, views)]
    assert torch.equal(*text)


def test_a_picture_is_drawn_and_an_odd_size_is_refused(parts: Parts) -> None:
    drawn = sample(parts, ["a cat"], [""], 32, 48, 2, 3.0, [1])
    assert drawn[0].size == (32, 48)
    with pytest.raises(AtelierError, match="multiples of 16"):
        sample(parts, ["a cat"], [""], 40, 48, 2, 3.0, [1])
    with pytest.raises(AtelierError, match="without its text encoder or its VAE"):
        sample(replace(parts, vae=None), ["a cat"], [""], 32, 48, 2, 3.0, [1])
