"""Reads the settings in a LoRA file's metadata ("train like this file"). Reads only the header, without torch."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.files.limits import check_size
from atelier.config.imports.tensor_header import is_entry
from atelier.config.imports.tensor_ranks import Ranks, ranks_of
from atelier.config.kohya.assemble import Entry
from atelier.config.kohya.verdicts import HONOURED, KeyVerdict, for_value, metadata_verdict

LONGEST_HEADER = 100_000_000
"""In bytes; the format's own limit."""

_DATASET = {
    "resolution": "resolution", "batch_size_per_device": "train_batch_size", "enable_bucket": "enable_bucket",
    "min_bucket_reso": "min_bucket_reso", "max_bucket_reso": "max_bucket_reso",
}  # fmt: skip
_SUBSET = ("color_aug", "flip_aug", "random_crop", "shuffle_caption", "keep_tokens", "keep_tokens_separator",
           "secondary_separator", "enable_wildcard", "caption_prefix", "caption_suffix")  # fmt: skip
"""Values in ss_datasets, of a dataset and of its subsets, that are settings too."""


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file. `metadata`: text by key. `shapes`: shape of each tensor by name."""

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    ranks: Ranks | None
    """The ranks of its tensors; None when it has none."""


@dataclass
class Stated:
    """What metadata say: entries under sd-scripts' names, and verdicts of keys that have no such name."""

    entries: list[Entry] = field(default_factory=list)
    keys: dict[str, KeyVerdict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_header(path: Path) -> Header:
    """The header of a .safetensors file. Raises `AtelierError`.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(LONGEST_HEADER, size - 8):
                raise AtelierError(f"{path.name} is not a safetensors file, or is incomplete.")
            header = json.loads(file.read(length).decode("utf-8"))
    except OSError as error:
        raise AtelierError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise AtelierError(f"{path.name} is not a safetensors file: its header cannot be read.") from error
    if not isinstance(header, dict):
        raise AtelierError(f"{path.name} is not a safetensors file: its header is not a table.")
    stored = header.pop("__metadata__", None)
    metadata = {str(key): str(value) for key, value in stored.items()} if isinstance(stored, dict) else {}
    entries = {name: entry for name, entry in header.items() if is_entry(entry)}
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    return Header(metadata, shapes, ranks_of(path, entries, 8 + length))


def tell(header: Header) -> Stated:
    """What a file says about its training. Raises `AtelierError` when it says nothing and is no LoRA."""
    stated = Stated()
    metadata, ranks = header.metadata, header.ranks
    for key, text in metadata.items():
        if ranks is not None and key in _RANKS and not _is_number(text):
            continue
        value = _value(key, text)
        found = for_value(metadata_verdict(key), value)
        if found.becomes and value is None:
            stated.keys[key] = KeyVerdict(key, text, HONOURED, "Not set.")
        elif not found.becomes or key in _SPECIAL:
            stated.keys[key] = KeyVerdict(key, text, found.verdict, found.note)
        else:
            stated.entries.append(Entry(found.becomes, value, source=key, shown=text, note=found.note))
    silent = not any(key.startswith("ss_") for key in metadata)
    if silent and ranks is None:
        raise AtelierError("This file has no training settings: there are none in its metadata, and it is not a LoRA.")
    _optimizer(stated, metadata)
    measured = ranks if ranks is not None and not _is_number(metadata.get("ss_network_dim")) else None
    _network_args(stated, metadata, measured)
    _dataset(stated, metadata)
    _from_modelspec(stated, metadata)
    if ranks is not None:
        _ranks(stated, metadata, ranks)
    if silent:
        stated.notes.append("The file has no metadata of its training. Only the rank could be read, from its tensors.")
    return stated


_RANKS = ("ss_network_dim", "ss_network_alpha")
"""Metadata that kohya's tools write as "Dynamic" where the layers differ."""
_SPECIAL = ("ss_optimizer", "ss_network_args", "modelspec.prediction_type", "modelspec.timestep_range",
            "modelspec.title")  # fmt: skip


def _value(key: str, text: str) -> Any:
    """The value in a metadata text. "None" means not set; a size may be written as "(512, 512)"."""
    text = text.strip()
    if text in ("", "None", "null"):
        return None
    if key == "ss_resolution":
        return text.strip("()[] ").replace(" ", "")
    if key == "ss_text_encoder_lr":
        return text.strip("()[] ") or None
    return text


def _optimizer(stated: Stated, metadata: Mapping[str, str]) -> None:
    """ "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))": a class, and its arguments."""
    text = metadata.get("ss_optimizer", "")
    match = re.fullmatch(r"\s*([\w.]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if not match or match.group(1) in ("", "None"):
        return
    path, arguments = match.group(1), match.group(2) or ""
    name = path.rpartition(".")[2]
    stated.entries.append(Entry("optimizer_type", _OPTIMIZERS.get(name.lower(), name), silent=True))
    pieces = [piece.strip() for piece in _split_outside_brackets(arguments)]
    pairs = [piece.replace(" ", "") for piece in pieces if "=" in piece]
    if pairs:
        stated.entries.append(Entry("optimizer_args", pairs, silent=True))


_OPTIMIZERS = {"adamw": "AdamW", "adamw8bit": "AdamW8bit", "sgd": "SGDNesterov"}
"""kohya's name for classes that have another name."""


def _split_outside_brackets(text: str) -> list[str]:
    pieces, depth, begun = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            pieces.append(text[begun:place])
            begun = place + 1
    return [*pieces, text[begun:]]


def _network_args(stated: Stated, metadata: Mapping[str, str], ranks: Ranks | None) -> None:
    """The network_args, with the tensors' `ranks` of 3x3 convolutions where the file was resized."""
    try:
        arguments = json.loads(metadata.get("ss_network_args") or "{}")
        check_size(arguments, "ss_network_args")
    except (ValueError, RecursionError, AtelierError):
        arguments = None
    if not isinstance(arguments, dict):
        stated.notes.append("ss_network_args cannot be read and was ignored.")
        arguments = {}
    if ranks is not None and ranks.conv_dim is not None:
        arguments |= {"conv_dim": ranks.conv_dim, "conv_alpha": f"{ranks.conv_alpha:g}"}
    pairs = [f"{key}={value}" for key, value in arguments.items() if value not in (None, "", "None")]
    # kohya adds network_dropout to the arguments when the file was trained with dropout.
    pairs = [pair for pair in pairs if not pair.startswith("dropout=") or "ss_network_dropout" not in metadata]
    if pairs:
        stated.entries.append(Entry("network_args", pairs, silent=True))


def _dataset(stated: Stated, metadata: Mapping[str, str]) -> None:
    """Sizes and captions of the first dataset, unless the metadata have them under keys of their own."""
    text = metadata.get("ss_datasets")
    if not text:
        return
    try:
        datasets = json.loads(text)
        check_size(datasets, "ss_datasets")
        first = next(item for item in datasets if isinstance(item, dict))
    except (ValueError, TypeError, StopIteration, RecursionError, AtelierError):
        stated.notes.append("ss_datasets cannot be read and was ignored.")
        return
    given = {entry.key for entry in stated.entries}
    listed = first.get("subsets")
    items = listed if isinstance(listed, list) else []
    subsets = [item for item in items if isinstance(item, dict) and not item.get("is_reg")]
    values = {target: first.get(key) for key, target in _DATASET.items()}
    values |= {key: subsets[0].get(key) for key in _SUBSET} if subsets else {}
    for key, value in values.items():
        if value not in (None, "", []) and key not in given:
            stated.entries.append(Entry(key, value, silent=True))
    if len(datasets) > 1:
        stated.notes.append(f"The file was trained on {len(datasets)} datasets. The sizes of the first are used.")


def _from_modelspec(stated: Stated, metadata: Mapping[str, str]) -> None:
    if metadata.get("modelspec.prediction_type") == "v":
        stated.entries.append(Entry("v_parameterization", True, silent=True))
    title = metadata.get("modelspec.title")
    if title and title != metadata.get("ss_output_name"):
        stated.entries.append(Entry("metadata_title", title, silent=True))
    try:
        low, high = (int(part) for part in metadata.get("modelspec.timestep_range", "").split(","))
    except ValueError:
        return
    stated.entries += [Entry("min_timestep", low, silent=True), Entry("max_timestep", high, silent=True)]


def _ranks(stated: Stated, metadata: Mapping[str, str], ranks: Ranks) -> None:
    """Rank and alpha from the tensors, where the metadata have no numbers for them."""
    dim, alpha = metadata.get("ss_network_dim"), metadata.get("ss_network_alpha")
    if not _is_number(dim):
        note = ranks.note if dim is not None else ""
        stated.entries.append(_measured("ss_network_dim", "network_dim", ranks.dim, dim, note))
    if not _is_number(alpha):
        size = float(dim) if dim is not None and _is_number(dim) else ranks.dim
        note = "Taken from the tensors of the file." if alpha is not None else ""
        value = ranks.alpha / ranks.dim * size
        stated.entries.append(_measured("ss_network_alpha", "network_alpha", value, alpha, note))


def _measured(source: str, key: str, value: float, text: str | None, note: str) -> Entry:
    """An entry from the tensors; with a verdict when the metadata have the key, but no number."""
    return Entry(key, value, silent=True) if text is None else Entry(key, value, source=source, shown=text, note=note)


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and math.isfinite(float(text))
    except ValueError:
        return False
