"""Applies LoRA files to a model while it draws, and removes them again without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.applied.frozen import frozen_layer
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import LoRAFile
from atelier.adapters.files.layouts import layers_of
from atelier.adapters.files.other_names import as_ours
from atelier.adapters.layers.names import LayerNames
from atelier.adapters.layers.targets import Target
from atelier.adapters.network import Network
from atelier.config.errors import AtelierError
from atelier.models.family import Parts


@dataclass(frozen=True)
class AppliedLora:
    """A file prepared for one model: the `network` to attach, and the parts of the file that do not fit."""

    name: str
    network: Network
    unknown: list[str]
    """Keys that belong to no layer of the model."""
    unfitting: list[str]
    """Layers whose shapes differ from the model's, each with what is wrong."""

    def report(self) -> str | None:
        """A sentence about the parts that are not used; None when everything fits."""
        left = len(self.unknown) + len(self.unfitting)
        if not left:
            return None
        example = (self.unfitting or self.unknown)[0]
        return f"{self.name}: {len(self.network.layers)} layers are used, {left} entries do not fit ({example} …)."


@dataclass(frozen=True)
class LoraUse:
    """A file, with a weight for the UNet and one for the text encoders."""

    file: LoRAFile
    unet: float = 1.0
    text_encoder: float = 1.0


def prepare_lora(parts: Parts, file: LoRAFile, names: LayerNames | None = None) -> AppliedLora:
    """Prepares a file for the model: frozen layers on its device and in its precision, not attached yet.

    It reads the whole file, so keep the result to use it again. `names` may be shared between files. Raises
    `AtelierError` when no part of the file fits the model.
    """
    layers, unknown, unfitting = match_layers(parts, file, names)
    ready = []
    for target, tensors in layers:
        try:
            ready.append((target, frozen_layer(target.module, tensors)))
        except AtelierError as error:
            unfitting.append(f"{target.name}: {error}")
    if not ready:
        raise AtelierError(_nothing_fits(parts, file, unfitting))
    network = Network(ready, NetworkConfig(module="frozen"), parts.family.name)
    network.requires_grad_(False).eval()
    return AppliedLora(file.name, network, unknown, unfitting)


def match_layers(
    parts: Parts, file: LoRAFile, names: LayerNames | None = None
) -> tuple[list[tuple[Target, dict[str, Tensor]]], list[str], list[str]]:
    """Matches the file's layers to the model's: [(layer, {suffix: tensor})], keys without a layer, and an empty list.

    It understands the names of kohya in all forms, of PEFT, diffusers, LDM and ComfyUI. Alphas that PEFT keeps in the
    metadata are put beside the tensors. PEFT's DoRA magnitudes, one per output, get LyCORIS' name and shape.
    """
    names = names or LayerNames(parts)
    written, unknown = layers_of(file.tensors)
    alphas = peft_alphas(file, {layer: tensors for layer, tensors in written.items() if "alpha" not in tensors})
    for layer, alpha in alphas.items():
        written[layer] = {**written[layer], "alpha": torch.tensor(alpha)}
    found: dict[str, tuple[Target, dict[str, Tensor]]] = {}
    for layer, tensors in as_ours(parts.family, written).items():
        target = names.find(layer)
        if target is None:
            unknown.extend(f"{layer}.{suffix}" for suffix in tensors)
            continue
        if "magnitude" in tensors:
            tensors = dict(tensors)
            tensors["dora_scale"] = tensors.pop("magnitude").reshape(-1, *[1] * (target.module.weight.ndim - 1))
        found.setdefault(target.name, (target, {}))[1].update(tensors)
    order = {target.name: index for index, target in enumerate(names.layers)}
    return [found[name] for name in sorted(found, key=order.__getitem__)], unknown, []


@contextmanager
def applied(parts: Parts, uses: Sequence[LoraUse]) -> Iterator[list[AppliedLora]]:
    """Applies these files inside the `with` block. Afterwards every module is as it was, bit for bit.

    Raises `AtelierError` when no part of a file fits the model.
    """
    names = LayerNames(parts) if uses else None
    ready = [prepare_lora(parts, use.file, names) for use in uses]
    with attached(ready, uses):
        yield ready


@contextmanager
def attached(ready: Sequence[AppliedLora], uses: Sequence[LoraUse]) -> Iterator[None]:
    """Applies files that are already prepared inside the `with` block, with the weights of `uses`."""
    with ExitStack() as stack:
        for lora, use in zip(ready, uses):
            lora.network.set_multipliers(use.unet, use.text_encoder)
            stack.enter_context(lora.network.attached())
        yield


def peft_alphas(file: LoRAFile, layers: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """The alphas of a PEFT file: lora_alpha of its configuration, which diffusers writes into the metadata as JSON."""
    try:
        config = json.loads(file.metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    alphas: dict[str, float] = {}
    for layer in layers:
        part = layer.split(".")[0]
        values = {key[len(part) + 1 :]: value for key, value in config.items() if key.startswith(part + ".")}
        path = layer[len(part) + 1 :]
        pattern = values.get("alpha_pattern")
        pattern = pattern if isinstance(pattern, dict) else {}
        alpha = next((value for key, value in pattern.items() if path.endswith(key)), values.get("lora_alpha"))
        if isinstance(alpha, (int, float)):
            alphas[layer] = float(alpha)
    return alphas


def _nothing_fits(parts: Parts, file: LoRAFile, unfitting: Sequence[str]) -> str:
    base = file.metadata.get("ss_base_model_version") or file.metadata.get("modelspec.architecture")
    made = f" Its metadata say that it was made for {base}." if base else ""
    why = f" ({unfitting[0]})" if unfitting else ""
    title = getattr(parts.family, "title", parts.family.name)
    return f"{file.name} fits no layer of the loaded {title} model{why}.{made} Load a model of the family it is for."
