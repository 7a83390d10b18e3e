"""Loads a model from disk: a .safetensors or .ckpt file in the LDM layout, or a diffusers folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from atelier.config.errors import AtelierError, shortened
from atelier.models.assets import load_tokenizers
from atelier.models.checkpoints.folder import (
    folder_family,
    folder_schedule,
    is_diffusers_folder,
    open_tensor_file,
    transformer_config,
    weights_from_folder,
)
from atelier.models.checkpoints.prediction import EPSILON, stated_prediction, states_zero_snr
from atelier.models.checkpoints.stated import stated_config
from atelier.models.family import Family, Parts
from atelier.models.registry import family_named, folder_reader, recognise
from atelier.models.views.from_ldm import ALL_PARTS, Weights, parts_from_weights, weights_from_ldm

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin")


@dataclass(frozen=True)
class CheckpointInfo:
    """Facts of a model on disk. `identity` depends on its weights only: a renamed or copied model keeps it."""

    title: str
    path: Path
    family: str
    prediction_type: str
    identity: str


class Loaded(NamedTuple):
    """A loaded model: its parts and its facts."""

    parts: Parts
    info: CheckpointInfo


def load_checkpoint(
    path: Path | str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    parts: frozenset[str] = ALL_PARTS,
    prediction_type: str | None = None,
) -> Loaded:
    """Loads these parts of a model in one precision, tensor by tensor. Nothing is downloaded.

    The family is detected from the tensors. The prediction type is `prediction_type` if given, else the one that the
    file states, else epsilon; for SD2 it is measured. Raises `AtelierError` when the file is not such a model.
    """
    path = Path(path)

    def convert(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

    if path.is_dir():
        with _in_words(path):
            return _load_folder(path, parts, convert, prediction_type)
    if not path.is_file():
        raise AtelierError(f"There is no model at {path}.")
    if path.suffix.lower() not in SUFFIXES:
        raise AtelierError(f"{path.name} is not a model file. Model files end in {', '.join(SUFFIXES)}.")
    file = open_tensor_file(path)
    try:
        with _in_words(path):
            family = recognise(file.shapes, path.name)
            loaded = family.load(file, parts, convert)
    finally:
        file.close()
    said = prediction_type or stated_prediction(path, file.metadata, file.shapes)
    if said is None:
        said = family.assumed_prediction(loaded)
    loaded.prediction_type = said
    loaded.zero_terminal_snr = states_zero_snr(file.metadata, file.shapes)
    return Loaded(loaded, CheckpointInfo(path.stem, path, family.name, said, identity_of(path)))


def _load_folder(
    path: Path, wanted: frozenset[str], convert: Callable[[Tensor], Tensor], prediction_type: str | None
) -> Loaded:
    if not is_diffusers_folder(path):
        raise AtelierError(f"{path} is not a diffusers folder: it has neither model_index.json nor unet/config.json.")
    transformer = transformer_config(path)
    own = None if transformer is None else folder_reader(transformer)
    if own is not None:
        loaded = own.load_folder(path, wanted, convert)
        return Loaded(
            loaded, CheckpointInfo(path.name, path, loaded.family.name, loaded.prediction_type, identity_of(path))
        )
    family = family_named(folder_family(path))
    weights = weights_from_folder(path, wanted, convert)
    loaded = parts_from_weights(family, weights, load_tokenizers(family.name, path))
    said, zero_snr = folder_schedule(path)
    loaded.prediction_type = prediction_type or said or EPSILON
    loaded.zero_terminal_snr = zero_snr
    info = CheckpointInfo(path.name, path, family.name, loaded.prediction_type, identity_of(path))
    return Loaded(loaded, info)


def weights_from_path(family: Family, path: Path, parts: frozenset[str]) -> Weights:
    """The tensors of these parts of a file or folder, unconverted. Raises `AtelierError`."""
    if path.is_dir():
        return weights_from_folder(path, parts, lambda tensor: tensor)
    file = open_tensor_file(path)
    try:
        return weights_from_ldm(family, file.shapes, file.read, parts, stated_config(file.metadata))
    finally:
        file.close()


def identity_of(path: Path) -> str:
    """A short hash of a model, made quickly from the size and 16 samples of 64 KB of every weight file."""
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for part in ("unet", "transformer", "text_encoder", "text_encoder_2", "vae")
            for file in (path / part).glob("*")
            if file.suffix in SUFFIXES
        )
    return identity_of_files(files)


def identity_of_files(files: Iterable[Path]) -> str:
    """The hash of `identity_of`, of these files in their order."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with file.open("rb") as opened:
            for sample in range(16):
                opened.seek(size * sample // 16)
                digest.update(opened.read(1 << 16))
    return digest.hexdigest()[:16]


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turns any error inside the block into an `AtelierError` that names the model.

    Names, shapes and configurations come from a file of anybody's, so the libraries may raise anything.
    """
    try:
        yield
    except AtelierError as error:
        if path.name in str(error):
            raise
        raise AtelierError(f"{path.name}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if "memory" in str(error):  # the device's memory is full: the caller may know what to do
            raise
        raise AtelierError(
            f"{path.name} cannot be used: its tensors or its configuration are not those of a complete "
            f"Stable Diffusion model ({type(error).__name__}: {shortened(str(error))})."
        ) from error
