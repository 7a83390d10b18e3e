"""Merges a LoRA file into a checkpoint file, and extracts a LoRA file from two checkpoints. Results are new files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from atelier.adapters.applied.apply import LoraUse, match_layers
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.tools.extract import extract_lora
from atelier.adapters.tools.merge import merged_weights
from atelier.config.errors import AtelierError
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.checkpoints.size import bytes_of, numbers_of
from atelier.training.outputs.outputs import DTYPES
from atelier.training.outputs.saving import check_space, check_writable


@dataclass(frozen=True)
class Made:
    """A file that was written. `report`: a sentence about its content."""

    path: Path
    report: str


@torch.no_grad()
def merge_lora(lora: Path, base: Path, out: Path, weight: float = 1.0, precision: str = "fp16") -> Made:
    """Writes `base` with `weight` times the LoRA in its weights to `out`, which must be new.

    `precision`: "fp16", "bf16" or "float". Raises `AtelierError` when a file cannot be read, when nothing of the
    LoRA fits the model, and when `out` cannot be written.
    """
    check_new(out)
    file = read_lora(lora)
    parts = load_checkpoint(base).parts
    dtype = DTYPES[precision]
    modules = {"unet": parts.denoiser, **dict(zip(("text_encoder", "text_encoder_2"), parts.text_encoders))}
    check_space(out.parent, numbers_of(parts.parameters()) * dtype.itemsize)
    unknown = match_layers(parts, file)[1]
    count = 0
    for merged in merged_weights(parts, [LoraUse(file, weight, weight)]):
        modules[merged.part].get_submodule(merged.path).weight.data = merged.tensor
        count += 1
    about = {"ss_merged_lora": lora.name, "ss_merged_weight": f"{weight:g}", "ss_sd_model_name": base.name}
    safe = out.suffix == ".safetensors"
    save_checkpoint(out, parts, base, dtype=dtype, metadata=about if safe else None)
    rest = f"; {len(unknown)} entries of the LoRA do not fit and were not used" if unknown else ""
    return Made(out, f"{out.name}: {base.name} with {weight:g} times {lora.name}, {count} layers changed{rest}.")


@torch.no_grad()
def extract_lora_file(
    tuned: Path, base: Path, out: Path, rank: int = 32, energy: float | None = None, precision: str = "fp16"
) -> Made:
    """Writes the LoRA that turns `base` into `tuned`, as closely as `rank` allows, to `out`, which must be new.

    `energy` (0 to 1) keeps that share of each layer's difference with as few ranks as possible. Raises `AtelierError`
    when the two are of different families, or are equal.
    """
    check_new(out)
    first, second = load_checkpoint(tuned).parts, load_checkpoint(base).parts
    tensors = extract_lora(first, second, rank, energy=energy)
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_base_model_version": second.family.base_model_version,
        "ss_v2": str(second.family.name == "sd2"),
        "ss_sd_model_name": base.name,
        "modelspec.architecture": second.family.architecture(second.prediction_type) + "/lora",
    }
    found = {name: tensor.to(DTYPES[precision]) for name, tensor in tensors.items()}
    check_space(out.parent, bytes_of(found.values()))
    save_lora(out, found, metadata)
    layers = len({name.split(".")[0] for name in found})
    return Made(out, f"{out.name}: {layers} layers, the difference between {tuned.name} and {base.name}.")


def check_new(out: Path) -> None:
    """Raises `AtelierError` when `out` exists or cannot be written."""
    if out.exists():
        raise AtelierError(f"{out} exists already. Choose another name.")
    check_writable(out.parent)
