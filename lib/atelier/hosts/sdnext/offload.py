"""Removes SD.Next's offloading from the model for training, and restores it afterwards."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from atelier.hosts.sdnext.refusals import components

GROUP_HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")
"""What diffusers calls the hooks of its group offloading."""


class Offload:
    """Takes the hooks of every mode (model, group, balanced, sequential) off, and has SD.Next put them on again.

    To be used inside SD.Next's queue.
    """

    def __init__(self) -> None:
        self._taken: weakref.ref[nn.Module] | None = None
        self._devices: dict[str, torch.device] = {}
        self._hooked = False
        self._marked = False

    @property
    def is_out(self) -> bool:
        """True while hooks are off, or modules are elsewhere than SD.Next had them."""
        return self._hooked or bool(self._devices)

    def take_out(self, pipe: Any, device: torch.device) -> None:
        """Makes every weight that is lent a plain tensor on `device`."""
        modules = components(pipe)
        if self._taken is None or self._taken() is not modules["unet"]:
            self._forget()
            self._taken = weakref.ref(modules["unet"])
        if any(is_hooked(module) for module in modules.values()):
            self._hooked = True
            self._marked = self._marked or bool(getattr(pipe, "has_accelerate", False))
            for module in modules.values():
                take_hooks_off(module)
            pipe.has_accelerate = False
        for name, module in modules.items():
            place = next(module.parameters()).device
            if place != device and not same_place(place, device):
                self._devices.setdefault(name, place)
                module.to(device)

    def put_back(self, pipe: Any) -> None:
        """Undoes `take_out`. Does nothing for another model than the one it was done to."""
        mine = pipe is not None and self._taken is not None and components(pipe).get("unet") is self._taken()
        if mine and self._hooked:
            from modules import sd_models

            sd_models.set_diffuser_offload(pipe, op="model", quiet=True, force=True)
            pipe.has_accelerate = self._marked or bool(getattr(pipe, "has_accelerate", False))
        elif mine and self._devices:
            modules = components(pipe)
            for name, place in self._devices.items():
                modules[name].to(place)
        self._forget()

    def _forget(self) -> None:
        self._taken, self._devices, self._hooked, self._marked = None, {}, False, False


def is_hooked(module: nn.Module) -> bool:
    """True when accelerate or diffusers moves the module, or a part of it, about."""
    return any(hasattr(part, "_hf_hook") or group_hooks(part) for part in module.modules())


def group_hooks(part: nn.Module) -> list[str]:
    """The names of the group offloading's hooks on one module."""
    hooks = getattr(getattr(part, "_diffusers_hook", None), "hooks", None) or {}
    return [name for name in GROUP_HOOKS if name in hooks]


def take_hooks_off(module: nn.Module) -> None:
    """Leaves a module without hooks of offloading, its weights where the hooks kept them."""
    from accelerate.hooks import remove_hook_from_module

    names = {part: part.network_layer_name for part in module.modules() if hasattr(part, "network_layer_name")}
    for part in list(module.modules()):
        for name in group_hooks(part):
            part._diffusers_hook.remove_hook(name, recurse=False)
    remove_hook_from_module(module, recurse=True)
    for part, name in names.items():
        part.network_layer_name = name


def same_place(one: torch.device, other: torch.device) -> bool:
    """True for "cuda" and "cuda:0", which are the same device."""
    return one.type == other.type and (one.index or 0) == (other.index or 0)
