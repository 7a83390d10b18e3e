"""Loading a model from disk: a .safetensors or .ckpt file of the LDM layout, or a diffusers folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
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
    weights_from_folder,
)
from atelier.models.checkpoints.prediction import EPSILON, stated_prediction, states_zero_snr
from atelier.models.checkpoints.stated import stated_config
from atelier.models.family import Family, Parts
from atelier.models.registry import family_named, recognise
from atelier.models.views.from_ldm import ALL_PARTS, Weights, parts_from_weights, weights_from_ldm

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a model on disk is. `identity` changes when its weights do, not when it is renamed or copied."""

    title: str
    path: Path
    family: str
    prediction_type: str
    identity: str


class Loaded(NamedTuple):
    """A model brought into memory."""

    parts: Parts
    info: CheckpointInfo


def load_checkpoint(
    path: Path | str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    parts: frozenset[str] = ALL_PARTS,
    prediction_type: str | None = None,
) -> Loaded:
    """Loads the asked parts of a model in one precision, tensor by tensor, without anything from the network.

    The family is told from the tensors. What the UNet predicts is `prediction_type` if given, else what the file
    says, else epsilon, for SD2 measured. Raises `AtelierError` with one sentence when the file is not such a model.
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
        raise AtelierError(f"{path.name} is not a model file; those end in {', '.join(SUFFIXES)}.")
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
    family = family_named(folder_family(path))
    weights = weights_from_folder(path, wanted, convert)
    loaded = parts_from_weights(family, weights, load_tokenizers(family.name, path))
    said, zero_snr = folder_schedule(path)
    loaded.prediction_type = prediction_type or said or EPSILON
    loaded.zero_terminal_snr = zero_snr
    info = CheckpointInfo(path.name, path, family.name, loaded.prediction_type, identity_of(path))
    return Loaded(loaded, info)


def weights_from_path(family: Family, path: Path, parts: frozenset[str]) -> Weights:
    """The tensors of the asked parts of a file or folder, as they are there. Raises `AtelierError`."""
    if path.is_dir():
        return weights_from_folder(path, parts, lambda tensor: tensor)
    file = open_tensor_file(path)
    try:
        return weights_from_ldm(family, file.shapes, file.read, parts, stated_config(file.metadata))
    finally:
        file.close()


def identity_of(path: Path) -> str:
    """A short hash of a model's bytes: of the size and 16 samples of 64 KB of every weight file, so it is quick."""
    digest = hashlib.sha256()
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for part in ("unet", "text_encoder", "text_encoder_2", "vae")
            for file in (path / part).glob("*")
            if file.suffix in SUFFIXES
        )
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
    """Inside the block whatever is wrong with a model becomes an `AtelierError` that names it.

    Its tensors' names and shapes and its configuration are anybody's: what they can lead the libraries into has no end.
    """
    try:
        yield
    except AtelierError as error:
        raise error if path.name in str(error) else AtelierError(f"{path.name}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if "memory" in str(error):  # of the device: the caller may know what to do
            raise
        raise AtelierError(
            f"{path.name} is not a model that can be used: its tensors or its configuration are not those of a whole "
            f"Stable Diffusion model ({type(error).__name__}: {shortened(str(error))})."
        ) from error
