"""Loads a VAE of its own, from a file or a folder, in place of the one that came with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from atelier.config.errors import AtelierError, shortened
from atelier.config.files.paths import exists, expanded
from atelier.models.checkpoints.folder import open_tensor_file, vae_config_of, vae_folder, vae_names, vae_tensors_of
from atelier.models.checkpoints.load import SUFFIXES, identity_of_files
from atelier.models.checkpoints.stated import stated_config
from atelier.models.family import Family, TensorSource
from atelier.models.registry import family_named
from atelier.models.unet.ldm_names import VAE_PREFIX
from atelier.models.views.configs import autoencoder_config
from atelier.models.views.from_ldm import weights_from_ldm
from atelier.models.views.view import view

LAYOUT = "sd1"
"""The family whose file layout is read. The VAEs of SD 1, 2 and XL have the same layers and names."""


@dataclass(frozen=True)
class OwnVae:
    """A VAE that a run has loaded itself. `identity` depends on its weights only."""

    module: nn.Module
    identity: str


def load_vae(text: str, family: Family) -> OwnVae:
    """The VAE at the path `text`, on the CPU in the file's precision.

    A file may have LDM names (also a whole checkpoint) or diffusers names; a folder is diffusers' own or that of a
    whole model. Raises `AtelierError` for a missing or another file, and for a VAE of another kind of latents.
    """
    path = expanded(text)
    if not exists(path):
        raise AtelierError(
            f"There is no VAE at {path}. Give a file or a folder on this machine; nothing is downloaded."
        )
    try:
        config, tensors, files = _from_folder(path) if path.is_dir() else (*_from_file(path), [path])
        floats = {name: tensor.float() if _too_short(tensor) else tensor for name, tensor in tensors.items()}
        module = view(AutoencoderKL, config, floats)
    except AtelierError as error:
        if path.name in str(error):
            raise
        raise AtelierError(f"{path.name}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise AtelierError(
            f"{path.name} cannot be used as VAE: its tensors or its configuration are not those of one "
            f"({type(error).__name__}: {shortened(str(error))})."
        ) from error
    channels, step = int(config.get("latent_channels", 4)), 2 ** (len(config["block_out_channels"]) - 1)
    if (channels, step) != (family.latent_channels, family.pixel_step):
        raise AtelierError(
            f"{path.name} is a VAE of another kind of model: it makes latents of {channels} channels and {step} pixels "
            f"a cell, but {family.title} needs {family.latent_channels} channels and {family.pixel_step} pixels."
        )
    return OwnVae(module, identity_of_files(files))


def _too_short(tensor: Tensor) -> bool:
    """True for 8-bit floats, with which nothing can be computed."""
    return tensor.is_floating_point() and tensor.dtype.itemsize == 1


def _from_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], list[Path]]:
    folder = vae_folder(path)
    if folder is None:
        raise AtelierError(f"{path} has no VAE: there is neither a config.json nor a folder vae in it.")
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    return vae_config_of(folder), vae_tensors_of(folder), files


def _from_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if path.suffix.lower() not in SUFFIXES:
        raise AtelierError(f"{path.name} is not a VAE file. Such files end in {', '.join(SUFFIXES)}.")
    file = open_tensor_file(path)
    try:
        shapes = {name: tuple(shape) for name, shape in file.shapes.items()}
        if "encoder.down_blocks.0.resnets.0.conv1.weight" in shapes:
            return _diffusers_config(path, shapes), vae_names({name: file.read(name) for name in shapes})
        prefix = VAE_PREFIX if VAE_PREFIX + "encoder.conv_in.weight" in shapes else ""
        if prefix + "encoder.conv_in.weight" not in shapes:
            raise AtelierError(f"{path.name} is not a VAE: it has no layer encoder.conv_in. Choose another file.")
        return _ldm(file, prefix)
    finally:
        file.close()


def _ldm(file: TensorSource, prefix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """From LDM's names, with or without "first_stage_model." in front of them."""
    added = "" if prefix else VAE_PREFIX
    shapes = {added + name: shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    weights = weights_from_ldm(
        family_named(LAYOUT), shapes, lambda name: file.read(name.removeprefix(added)), frozenset(("vae",)),
        stated_config(file.metadata),
    )  # fmt: skip
    return weights.configs["vae"], weights.tensors["vae"]


def _diffusers_config(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The configuration beside the file, as in a folder of diffusers; else from the shapes."""
    if (path.parent / "config.json").is_file() and path.stem.startswith("diffusion_pytorch_model"):
        return vae_config_of(path.parent)
    return autoencoder_config(LAYOUT, shapes, "encoder.down_blocks.", "resnets.")


def at_base(vae: OwnVae, base: nn.Module | None, device: torch.device) -> nn.Module:
    """The VAE on `device` in the precision of the base's own, which is what the host computes in."""
    dtype = torch.float32 if base is None else next(base.parameters()).dtype
    return nn.Module.to(vae.module, device=device, dtype=dtype)
