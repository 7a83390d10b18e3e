"""Removes LoRAs that a picture has left in SD.Next's weights, bit for bit.

By default SD.Next adds a LoRA to the weights and keeps no copy of them. Its own removal is a subtraction, which leaves
a residue: 1e-8 in fp32, up to 2e-4 in fp16. The exact weights come from the trainer's views, which still have them, or
are read from the checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atelier.hosts.sdnext.refusals import components

log = logging.getLogger(__name__)

Exact = Callable[[str, str], "Tensor | None"]
"""Component and name of a weight -> its values without any LoRA; None when they are unknown."""


@dataclass(frozen=True)
class Layer:
    """A layer that had a LoRA: its place, and whether SD.Next kept a copy of its weight."""

    part: str
    name: str
    module: Any

    @property
    def fused(self) -> bool:
        return getattr(self.module, "network_weights_backup", None) is True or (
            getattr(self.module, "network_bias_backup", None) is True
        )

    def weights(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        """Of weight and bias: attribute, full name, parameter."""
        for attribute in ("weight", "bias"):
            parameter = getattr(self.module, attribute, None)
            if isinstance(parameter, nn.Parameter):
                yield attribute, f"{self.name}.{attribute}", parameter


@dataclass(frozen=True)
class Cleaned:
    """The result: number of cleaned layers, largest residue of a subtraction, number of layers that still have it."""

    layers: int
    residue: float
    inexact: int

    def __str__(self) -> str:
        text = f"A LoRA was removed from {self.layers} layers of the base model"
        if self.inexact:
            return f"{text}. In {self.inexact} of them a rounding error stays, since the checkpoint cannot be read."
        return f"{text}. Rounding errors of up to {self.residue:.1e} were corrected with the exact weights."


def layers_with_loras(pipe: Any) -> list[Layer]:
    """The layers that are not as they were loaded: a LoRA is in them, or one was subtracted."""
    found = []
    for part, component in components(pipe).items():
        if part == "vae":
            continue
        for name, module in component.named_modules():
            layer = Layer(part, name, module)
            if getattr(module, "network_current_names", ()) or layer.fused:
                found.append(layer)
    return found


def take_out(pipe: Any, exact: Exact, bring: Callable[[], None]) -> Cleaned | None:
    """Takes every LoRA out. None when there was none, which costs a loop over the layers. Inside the queue.

    `bring` puts every weight where it can be written to, which SD.Next's own subtraction may have offloaded again.
    """
    layers = layers_with_loras(pipe)
    if not layers:
        return None
    fused = [layer for layer in layers if layer.fused]
    _subtract()
    bring()
    residue, inexact = 0.0, 0
    with torch.inference_mode(False), torch.no_grad():
        for layer in fused:
            missing = False
            for attribute, name, parameter in layer.weights():
                before = exact(layer.part, name)
                if before is None or before.shape != parameter.shape:
                    missing = True
                    continue
                before = like(before, parameter)
                residue = max(residue, float((parameter.detach() - before).abs().max()))
                setattr(layer.module, attribute, nn.Parameter(before, requires_grad=parameter.requires_grad))
            inexact += missing
            if not missing:
                layer.module.network_weights_backup = layer.module.network_bias_backup = None
        for layer in layers:
            layer.module.network_current_names = ()
    forget(pipe)
    cleaned = Cleaned(len(layers), residue, inexact)
    log.info("%s", cleaned)
    return cleaned


def like(values: Tensor, parameter: Tensor) -> Tensor:
    """`values` as the parameter has its own: device, type and order in memory; themselves when they are so already."""
    if (values.device, values.dtype, values.stride()) == (parameter.device, parameter.dtype, parameter.stride()):
        return values
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


def _subtract() -> None:
    """SD.Next's own way: subtracts what is fused, and puts its backups back where it has some."""
    from modules import shared
    from modules.lora import lora_common, networks

    stopped, shared.state.interrupted = shared.state.interrupted, False  # which would make both do nothing
    try:
        lora_common.loaded_networks.clear()
        networks.network_deactivate()
        networks.network_activate()
    finally:
        shared.state.interrupted = stopped


def forget(pipe: Any) -> None:
    """Clears SD.Next's two notes of the LoRAs that are in the model."""
    from modules.lora import lora_common

    lora_common.loaded_networks.clear()
    lora_common.previously_loaded_networks.clear()
    for one in {id(item): item for item in (pipe, getattr(pipe, "pipe", pipe))}.values():
        if hasattr(one, "loaded_loras"):
            one.loaded_loras.clear()


class FromFile:
    """Weights as the checkpoint has them, read when first asked for, and only if the model was loaded from it."""

    def __init__(self, read: Callable[[str], dict[str, Tensor]], loaded: Callable[[str], dict[str, Tensor]]) -> None:
        self._read = read
        self._loaded = loaded
        self._parts: dict[str, dict[str, Tensor]] = {}

    def __call__(self, part: str, name: str) -> Tensor | None:
        if part not in self._parts:
            self._parts[part] = self._checked(part)
        return self._parts[part].get(name)

    def _checked(self, part: str) -> dict[str, Tensor]:
        """The part's tensors; none when those of the model that never wore a LoRA are other ones than the file's."""
        found, loaded = self._read(part), self._loaded(part)
        sample = [name for name in loaded if name in found][:8]
        same = [torch.equal(found[name].to(loaded[name].dtype), loaded[name].detach().cpu()) for name in sample]
        return found if sample and all(same) else {}
