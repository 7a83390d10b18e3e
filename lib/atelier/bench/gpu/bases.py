"""Bases of the released shapes with random weights, made on the device: nothing is downloaded.

Every family that can build its released model without weights is one. On a CPU each has a small stand-in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from atelier.bench.gpu.machine import Machine
from atelier.hosts.embedded.host import EmbeddedHost, LoadedModel
from atelier.models.family import HasReleasedShape, Parts
from atelier.models.registry import families, family_named

SMALL_SIDE = 32
"""Pixels of a picture's side on a CPU."""
FIRST = ("sdxl", "sd1")
"""Those with a goal to reach come first, and cases that need one model take one of them."""


@dataclass(frozen=True)
class Base:
    """A model to train on. `name`: its family's."""

    name: str

    def on(self, machine: Machine, folder: Path, dtype: torch.dtype) -> EmbeddedHost:
        """A host that has it loaded, in `dtype`, on the machine's device. `folder` takes what a run writes."""
        host = EmbeddedHost(folder, device=machine.device, demo_base=None)
        parts = random_parts(self.name, machine.device, dtype, small=not machine.is_gpu)
        side = family_named(self.name).resolution
        host.current = LoadedModel(self.name, folder / self.name, f"random {self.name} {dtype}", parts, side)
        host.dtype = dtype
        return host

    def side_on(self, machine: Machine) -> int:
        """Pixels of its pictures' sides: what the family was trained at."""
        return family_named(self.name).resolution if machine.is_gpu else SMALL_SIDE


SD1 = Base("sd1")
SDXL = Base("sdxl")


def all_bases() -> list[Base]:
    """Of every family that `HasReleasedShape`; a new one needs to be listed nowhere."""
    names = [family.name for family in families() if isinstance(family, HasReleasedShape)]
    return [Base(name) for name in sorted(names, key=lambda name: (*(name != first for first in FIRST), name))]


def random_parts(family: str, device: torch.device, dtype: torch.dtype, small: bool) -> Parts:
    """The family's model with random weights. Raises `AtelierError` for a family that is not known."""
    found = family_named(family)
    assert isinstance(found, HasReleasedShape)
    parts = found.empty(small)
    for module in parts.modules:
        nn.Module.to(module, dtype=dtype)  # diffusers' own warns of modules that this kind of model has none of
        _fill(module, device)
    return parts


def _fill(module: nn.Module, device: torch.device) -> None:
    """Weights that keep the size of what goes through them: norms of 1, others of 1/sqrt of their inputs."""
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for owner in module.modules():
            for name, parameter in list(owner._parameters.items()):
                if parameter is not None:
                    fresh = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                    is_norm = "Norm" in type(owner).__name__ and name == "weight"
                    owner._parameters[name] = nn.Parameter(_random(fresh, is_norm, generator), requires_grad=False)
            for name, buffer in list(owner._buffers.items()):
                if buffer is not None:
                    owner._buffers[name] = _buffer(name, buffer, device)
    module.eval()


def _random(weight: Tensor, is_norm: bool, generator: torch.Generator) -> Tensor:
    if weight.dim() < 2:
        return weight.fill_(1.0 if is_norm else 0.0)
    return weight.normal_(0.0, 1 / math.sqrt(weight[0].numel()), generator=generator)


def _buffer(name: str, buffer: Tensor, device: torch.device) -> Tensor:
    """What a family has computed is kept; CLIP's numbers of places are counted."""
    if buffer.device.type != "meta":
        return buffer.to(device)
    if name == "position_ids":
        return torch.arange(buffer.shape[-1], device=device).expand(buffer.shape).contiguous()
    return torch.zeros(buffer.shape, dtype=buffer.dtype, device=device)
