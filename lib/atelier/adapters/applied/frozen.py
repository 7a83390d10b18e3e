"""Adapter layers that are applied, not trained: a LoRA as low-rank layers, any other kind as a changed weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.adapters.applied.deltas import weight_change
from atelier.adapters.kinds.lora import LoRALayer
from atelier.adapters.layers.attachment import attach, detach
from atelier.config.errors import AtelierError


class ChangedWeight(nn.Module):
    """Computes a layer with the weight `base + multiplier * change`, for any kind of adapter.

    The changed weight is computed when it is first needed and dropped on detaching. The base is only read.
    """

    additive = False
    alpha = None

    def __init__(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Raises `AtelierError` when the tensors do not fit the layer."""
        super().__init__()
        self._target = (module,)
        self._tensors = dict(tensors)
        self._changed: tuple[float, Tensor, Tensor | None] | None = None
        self.multiplier = 1.0
        weight_change(tensors, module.weight.detach())

    @property
    def active(self) -> bool:
        return self.multiplier != 0.0

    def set_multiplier(self, multiplier: float) -> None:
        self.multiplier = multiplier

    def attach(self) -> None:
        attach(self._target[0], self)

    def detach(self) -> None:
        detach(self._target[0], self)
        self._changed = None

    def tensors(self) -> dict[str, Tensor]:
        """No trained tensors: the layer comes from a file."""
        return {}

    def saved(self) -> dict[str, Tensor]:
        return {}

    def add(self, x: Tensor, out: Tensor, batch: int) -> Tensor:
        raise TypeError("A changed weight replaces its base's output.")

    def replace(self, x: Tensor) -> Tensor:
        base: Any = self._target[0]
        weight, bias = self._weights()
        if isinstance(base, nn.Linear):
            return F.linear(x, weight, bias)
        return base._conv_forward(x, weight, bias)

    @torch.no_grad()
    def _weights(self) -> tuple[Tensor, Tensor | None]:
        base: Any = self._target[0]
        if self._changed is None or self._changed[0] != self.multiplier:
            change = weight_change(self._tensors, base.weight.detach().float())
            weight = (base.weight.float() + self.multiplier * change).to(base.weight.dtype)
            bias = base.bias
            shift = self._tensors.get("diff_b")
            if shift is not None:
                shift = self.multiplier * shift.to(weight.device, weight.dtype)
                bias = shift if bias is None else bias + shift
            self._changed = (self.multiplier, weight, bias)
        return self._changed[1], self._changed[2]


def frozen_layer(module: nn.Module, tensors: Mapping[str, Tensor]) -> LoRALayer | ChangedWeight:
    """The layer for one module of a file: {suffix: tensor} under kohya's and LyCORIS' names.

    A plain LoRA stays low-rank, in the precision of the base. Raises `AtelierError` when it does not fit.
    """
    plain = set(tensors) <= {"lora_down.weight", "lora_up.weight", "alpha"}
    if not plain or "lora_down.weight" not in tensors or "lora_up.weight" not in tensors:
        return ChangedWeight(module, tensors)
    base: Any = module
    down, up = tensors["lora_down.weight"], tensors["lora_up.weight"]
    dim = down.shape[0]
    if down[0].numel() != base.weight[0].numel() or up.numel() != dim * base.weight.shape[0]:
        raise AtelierError(f"it is {list(up.shape)} · {list(down.shape)}, the base has {list(base.weight.shape)}")
    alpha = tensors.get("alpha")
    layer = LoRALayer(module, dim, None if alpha is None else float(alpha))
    with torch.no_grad():
        layer.lora_down.copy_(down.reshape(layer.lora_down.shape))
        layer.lora_up.copy_(up.reshape(layer.lora_up.shape))
    return layer.to(base.weight.dtype).requires_grad_(False).eval()
