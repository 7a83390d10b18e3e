"""Writes a model as a checkpoint: .safetensors or .ckpt in the LDM layout, or a diffusers folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.models.checkpoints.folder import open_tensor_file
from atelier.models.checkpoints.folder_writing import write_folder
from atelier.models.checkpoints.load import weights_from_path
from atelier.models.checkpoints.stated import CONFIG_KEY
from atelier.models.checkpoints.tensor_file import TensorFile
from atelier.models.checkpoints.vae_file import load_vae
from atelier.models.checkpoints.writing import Entry, entry, write_pickle, write_safetensors
from atelier.models.family import Family, Parts
from atelier.models.text.clip_names import canonical
from atelier.models.unet.ldm_names import TEXT_PARTS, LdmNames
from atelier.models.views.configs import TEXT_LAYOUTS, structure_from_configs, structure_of
from atelier.models.views.from_ldm import Weights, clip_keys, configs_of

FORMATS = ("safetensors", "ckpt", "diffusers")


def save_checkpoint(
    path: Path,
    parts: Parts,
    base: Path | None = None,
    format: str | None = None,
    dtype: torch.dtype | None = None,
    vae: Path | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Saves a complete model. Modules and tensors that `parts` lacks are taken from `base`.

    `base`: the file or folder that the model was loaded from. The keys, the order and the extra tensors of a single
    file are kept. Only its EMA copy (`model_ema.`) is left out, since it is the average of other weights. `format`: one
    of `FORMATS`; None decides by the ending of `path`. `dtype`: precision of the model's weights; None keeps that of
    the base. `vae`: a file or folder with another VAE to use. `metadata`: strings, only for .safetensors. The file is
    written atomically: after an `AtelierError` the old file at `path` is unchanged.
    """
    kind = format or {".safetensors": "safetensors", ".ckpt": "ckpt"}.get(path.suffix, "diffusers")
    if kind not in FORMATS:
        raise AtelierError(f"{kind!r} is not a checkpoint format. Choose one of {', '.join(FORMATS)}.")
    weights = weights_of(parts)
    if vae is not None:
        put_vae(weights, parts.family, vae)
    if kind == "diffusers":
        _complete(weights, parts, base)
        write_folder(path, weights, parts, base, dtype)
        return
    with _opened_file(base) as base_file:
        if base_file is None:
            _complete(weights, parts, base)
            entries = _entries_without_base(weights, parts, dtype)
        else:
            entries = _entries_over_base(weights, parts.family, base_file, dtype)
        if kind == "ckpt":
            write_pickle(path, entries)
        else:
            write_safetensors(path, entries, _metadata(parts, weights, entries, metadata or {}))


def weights_of(parts: Parts) -> Weights:
    """The tensors and configurations of the modules, without copying."""
    weights = Weights()
    modules: list[tuple[str, nn.Module | None]] = [("unet", parts.denoiser), ("vae", parts.vae)]
    modules += list(zip(TEXT_PARTS, parts.text_encoders, strict=False))
    for part, module in modules:
        if module is None:
            continue
        is_text = part in TEXT_PARTS
        tensors = {
            canonical(name) if is_text else name: parameter.detach() for name, parameter in module.named_parameters()
        }
        config = module.config
        plain = dict(config.to_dict() if is_text else config)
        weights.tensors[part] = tensors
        weights.configs[part] = clip_keys(plain) if is_text else plain
    return weights


def put_vae(weights: Weights, family: Family, path: Path) -> None:
    """Replaces the VAE by the VAE in a file (only a VAE, or a whole checkpoint) or in a diffusers folder."""
    own = load_vae(str(path), family).module
    weights.tensors["vae"] = {name: parameter.detach() for name, parameter in own.named_parameters()}
    weights.configs["vae"] = dict(own.config)


def _entries_over_base(weights: Weights, family: Family, base: TensorFile, dtype: torch.dtype | None) -> list[Entry]:
    """All keys of the base file, with our weights where there are any."""
    names = LdmNames(structure_of(family.name, base.shapes))
    entries = []
    for key, shape in base.shapes.items():
        if key.startswith("model_ema."):
            continue
        targets = names.targets(key)
        ours = [weights.tensors.get(target.part, {}).get(target.name) for target in targets]
        given = [tensor for tensor in ours if tensor is not None]
        if targets and len(given) == len(targets):
            forms = [target.form for target in targets]
            kind = dtype if dtype is not None else base.dtype(key)
            if sum(tensor.numel() for tensor in given) != _count(shape):
                raise AtelierError(f"{base.path.name} is not the base of this model: {key} has another shape.")
            entries.append(Entry(key, shape, kind, _maker(given, forms)))
        else:
            wanted = dtype if targets and dtype is not None else base.dtype(key)
            entries.append(Entry(key, shape, wanted, functools.partial(base.read, key)))
    return entries


def _entries_without_base(weights: Weights, parts: Parts, dtype: torch.dtype | None) -> list[Entry]:
    """All keys of an LDM file of this family, made only from the names of our tensors."""
    family = parts.family.name
    names = LdmNames(structure_from_configs(family, weights.configs["unet"], weights.configs.get("vae")))
    found: dict[str, dict[str, Tensor]] = {}
    for part, tensors in weights.tensors.items():
        for name, tensor in tensors.items():
            key, form = names.source(part, name)
            found.setdefault(key, {})[form] = tensor
    entries = []
    for key, forms in found.items():
        order = [form for form in ("q", "k", "v", "same", "transposed", "conv") if form in forms]
        tensors_of_key = [forms[form] for form in order]
        make = _maker(tensors_of_key, order)
        shape = _ldm_shape(tensors_of_key, order)
        entries.append(Entry(key, shape, dtype or tensors_of_key[0].dtype, make))
    if family == "sd2":
        entries += _unused_last_layer(entries)
    if family == "sdxl":
        entries += _marks(parts)
    return entries


def _maker(tensors: Sequence[Tensor], forms: Sequence[str]) -> Callable[[], Tensor]:
    """A function that makes the LDM tensor from diffusers tensors."""

    def make() -> Tensor:
        if len(tensors) > 1:
            return torch.cat([tensor.cpu() for tensor in tensors])
        return tensors[0].t() if forms[0] == "transposed" else tensors[0]

    return make


def _ldm_shape(tensors: Sequence[Tensor], forms: Sequence[str]) -> tuple[int, ...]:
    shape = tuple(tensors[0].shape)
    if len(tensors) > 1:
        return (sum(tensor.shape[0] for tensor in tensors), *shape[1:])
    if forms[0] == "transposed":
        return shape[::-1]
    return (*shape, 1, 1) if forms[0] == "conv" else shape


def _unused_last_layer(entries: list[Entry]) -> list[Entry]:
    """SD2's loaders expect one more text layer than is ever used. A copy of the last layer takes its place."""
    stem = TEXT_LAYOUTS["sd2"][0].prefix + "transformer.resblocks."
    last = max(int(item.name[len(stem) :].split(".")[0]) for item in entries if item.name.startswith(stem))
    return [
        Entry(item.name.replace(f"{stem}{last}.", f"{stem}{last + 1}."), item.shape, item.dtype, item.make)
        for item in entries
        if item.name.startswith(f"{stem}{last}.")
    ]


def _marks(parts: Parts) -> list[Entry]:
    """Empty tensors by which WebUIs recognise an SDXL with v-prediction or zero terminal SNR."""
    marks = [("v_pred", parts.prediction_type == "v_prediction"), ("ztsnr", parts.zero_terminal_snr)]
    return [entry(name, torch.empty(0)) for name, is_so in marks if is_so]


def _complete(weights: Weights, parts: Parts, base: Path | None) -> None:
    """Adds the parts that were not leased from the base."""
    wanted = {"unet", "vae", *TEXT_PARTS[: len(parts.family.text_encoder_prefixes)]}
    missing = wanted - set(weights.tensors)
    if missing and base is not None:
        found = weights_from_path(parts.family, base, frozenset(part.removesuffix("_2") for part in missing))
        for part in missing & set(found.tensors):
            weights.tensors[part], weights.configs[part] = found.tensors[part], found.configs[part]


def _metadata(parts: Parts, weights: Weights, entries: list[Entry], given: Mapping[str, str]) -> dict[str, str]:
    """The caller's strings, the prediction type, and configuration values that the tensors' shapes do not show."""
    metadata = {
        "format": "pt",
        "modelspec.architecture": parts.family.architecture(parts.prediction_type),
        "modelspec.prediction_type": "v" if parts.prediction_type == "v_prediction" else "epsilon",
        **given,
    }
    derived = configs_of(parts.family, {item.name: item.shape for item in entries})
    differing: dict[str, dict[str, Any]] = {}
    for part, config in derived.items():
        actual = weights.configs.get(part, {})
        changes = {
            key: actual[key] for key in _UNTOLD if key in actual and _plain(actual[key]) != _plain(config.get(key))
        }
        if changes:
            differing[part] = changes
    if differing:
        metadata[CONFIG_KEY] = json.dumps(differing)
    return metadata


_UNTOLD = (
    "attention_head_dim", "num_attention_heads", "norm_num_groups", "hidden_act", "eos_token_id", "act_fn", "norm_eps",
    "scaling_factor", "layer_norm_eps", "transformer_layers_per_block",
)  # fmt: skip


def _plain(value: Any) -> Any:
    """A configuration value in one form: a list of equal numbers becomes that number."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(set(value)) == 1 else list(value)
    return value


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


@contextmanager
def _opened_file(path: Path | None) -> Iterator[TensorFile | None]:
    """The opened single file; None for a folder or None."""
    if path is None or path.is_dir():
        yield None
        return
    file = open_tensor_file(path)
    try:
        yield file
    finally:
        file.close()
