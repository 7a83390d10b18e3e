"""A VAE of its own: every layout gives the same weights, and a file that is none is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from atelier.config.errors import AtelierError
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.checkpoints.vae_file import load_vae
from atelier.models.registry import family_named
from tests.support.models_tiny import tiny_configs, tiny_parts

LDM = "first_stage_model."


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One VAE in every layout that people have."""
    folder = tmp_path_factory.mktemp("vaes")
    parts = tiny_parts("sd1", seed=5)
    save_checkpoint(folder / "whole.safetensors", parts, dtype=torch.float32)
    save_checkpoint(folder / "model", parts, format="diffusers", dtype=torch.float32)
    shutil.copytree(folder / "model" / "vae", folder / "folder")
    shutil.copy(folder / "folder" / "diffusion_pytorch_model.safetensors", folder / "named.safetensors")
    whole = load_file(folder / "whole.safetensors")
    bare = {name.removeprefix(LDM): tensor for name, tensor in whole.items() if name.startswith(LDM)}
    save_file(bare, folder / "bare.safetensors")
    torch.save({"state_dict": {**bare, "loss.logvar": torch.zeros(())}}, folder / "bare.vae.pt")
    torch.save(load_file(folder / "named.safetensors"), folder / "named.bin")
    old = {name.replace("to_q", "query").replace("to_k", "key").replace("to_v", "value"): tensor[:, :, None, None]
           if ".to_" in name and tensor.ndim == 2 else tensor
           for name, tensor in load_file(folder / "named.safetensors").items()}  # fmt: skip
    save_file(
        {name.replace("to_out.0", "proj_attn"): tensor for name, tensor in old.items()}, folder / "old.safetensors"
    )
    return folder


LAYOUTS = ("whole.safetensors", "model", "folder", "folder/diffusion_pytorch_model.safetensors", "named.safetensors",
           "bare.safetensors", "bare.vae.pt", "named.bin", "old.safetensors")  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_every_layout_gives_the_same_weights(name: str, family: str, files: Path) -> None:
    vae = tiny_parts("sd1", seed=5).vae
    assert vae is not None
    found = load_vae(str(files / name), family_named(family))
    wanted = dict(vae.named_parameters())
    given = dict(found.module.named_parameters())
    assert wanted.keys() == given.keys()
    assert all(torch.equal(given[key], tensor) for key, tensor in wanted.items())


def test_the_identity_is_that_of_the_weights(files: Path, tmp_path: Path) -> None:
    """Copies have the same; another VAE in the same kind of folder has another."""
    sd1 = family_named("sd1")
    shutil.copy(files / "bare.safetensors", tmp_path / "copy.safetensors")
    shutil.copytree(files / "folder", tmp_path / "other")
    weights = load_file(tmp_path / "other" / "diffusion_pytorch_model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()},
              tmp_path / "other" / "diffusion_pytorch_model.safetensors")  # fmt: skip
    bare = load_vae(str(files / "bare.safetensors"), sd1).identity
    assert load_vae(str(tmp_path / "copy.safetensors"), sd1).identity == bare
    assert load_vae(str(files / "folder"), sd1).identity != load_vae(str(tmp_path / "other"), sd1).identity


def write_flux(path: Path) -> None:
    config = {**tiny_configs("sd1")["vae"], "latent_channels": 16}
    AutoencoderKL.from_config(config).save_pretrained(path)


def write_half(path: Path) -> None:
    vae = tiny_parts("sd1").vae
    assert vae is not None
    save_file({name: tensor for name, tensor in vae.state_dict().items() if "decoder" not in name}, path)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.safetensors": (lambda path: None, "There is no VAE at"),
    "stabilityai/sd-vae-ft-mse": (lambda path: None, "nothing is downloaded"),
    "settings.toml": (lambda path: path.write_text("vae = 1"), "settings.toml is not a VAE file"),
    "text.safetensors": (lambda path: path.write_text("vae = 1"), "text.safetensors"),
    "lora.safetensors": (
        lambda path: save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, path),
        "lora.safetensors is not a VAE: it has no layer encoder.conv_in",
    ),
    "empty": (lambda path: path.mkdir(), "has no VAE"),
    "half.safetensors": (write_half, "half.safetensors"),
    "flux": (write_flux, "16 channels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_vae_for_the_base_is_named(name: str, tmp_path: Path) -> None:
    write, words = WRONG[name]
    write(tmp_path / name)
    with pytest.raises(AtelierError) as caught:
        load_vae(str(tmp_path / name), family_named("sd1"))
    assert words in str(caught.value) and Path(name).name in str(caught.value)
