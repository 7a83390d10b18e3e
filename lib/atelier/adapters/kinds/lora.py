"""The LoRA layer: y = Wx + multiplier * (alpha / dim) * up(down(x)), after Hu et al. 2021 (arXiv:2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.adapters.config import NetworkConfig
from atelier.adapters.layers.attachment import attach, detach
from atelier.adapters.layers.ranks import Ranks
from atelier.adapters.layers.targets import Target, find_targets
from atelier.models.family import Parts

PLAIN = ("", "networks.lora")
"""Values of network_module for a plain LoRA."""


class LoRALayer(nn.Module):
    """The adapter of one Linear or Conv2d, with `lora_down` [dim, in(, k, k)] and `lora_up` [out, dim(, 1, 1)].

    Its weights are always fp32; on use they are cast to the precision of the base layer's output. `alpha` 0 or None
    means dim. The dropouts act only in training: `dropout` on the inner values, `rank_dropout` on whole ranks of each
    picture (the others are scaled up), `module_dropout` on the whole layer.
    """

    additive = True

    def __init__(
        self,
        module: nn.Module,
        dim: int,
        alpha: float | None = None,
        *,
        dropout: float = 0.0,
        rank_dropout: float = 0.0,
        module_dropout: float = 0.0,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """`generator` (on the CPU) initialises `lora_down`. Without it the weights stay empty, to be loaded."""
        super().__init__()
        self._target = (module,)
        self.dim = dim
        self.alpha = float(alpha or dim)
        self.dropout, self.rank_dropout, self.module_dropout = dropout, rank_dropout, module_dropout
        self._drops = bool(dropout or rank_dropout or module_dropout)
        self.is_conv = isinstance(module, nn.Conv2d)
        base: Any = module
        down_shape = (dim, *base.weight.shape[1:])
        up_shape = (base.weight.shape[0], dim, *([1, 1] if self.is_conv else []))
        where = base.weight.device if device is None else torch.device(device)
        if self.is_conv:
            self._window = (base.stride, base.padding, base.dilation)
        with torch.inference_mode(False):
            down = torch.empty(down_shape, dtype=torch.float32, device="cpu" if generator else where)
            if generator is not None:
                draw_down(down, generator)
            self.lora_down = nn.Parameter(down.to(where))
            self.lora_up = nn.Parameter(torch.zeros(up_shape, dtype=torch.float32, device=where))
        self.set_multiplier(1.0)

    @property
    def module(self) -> nn.Module:
        """The base layer. It is not a submodule of this layer."""
        return self._target[0]

    @property
    def active(self) -> bool:
        return self.factor != 0.0

    def set_multiplier(self, multiplier: float) -> None:
        """Sets the adapter's strength; 0 turns it off."""
        self.multiplier = multiplier
        self.factor = multiplier * self.alpha / self.dim

    def loaded(self, alpha: float | None) -> None:
        """Must be called after the weights were loaded from a file with this alpha."""
        if alpha is not None:
            self.alpha = float(alpha or self.dim)
            self.set_multiplier(self.multiplier)

    def attach(self) -> None:
        attach(self.module, self)

    def detach(self) -> None:
        detach(self.module, self)

    def add(self, x: Tensor, out: Tensor, batch: int) -> Tensor:
        """`out` plus the LoRA's output for the input `x`, added in place; see `layers.attachment.Adapter.add`.

        In place is allowed, since neither Linear nor Conv2d needs its output for the gradient.
        """
        factor = self.factor
        drops = self._drops and self.training
        if drops and self.module_dropout and torch.rand(()).item() < self.module_dropout:
            return out
        down, up = self.lora_down, self.lora_up
        if down.dtype != out.dtype:
            down, up = down.to(out.dtype), up.to(out.dtype)
        if self.is_conv:
            stride, padding, dilation = self._window
            inner = F.conv2d(x, down, None, stride, padding, dilation)
            if drops:
                inner, factor = self._dropped(inner, batch, factor)
            return out.add_(F.conv2d(inner if factor == 1.0 else inner * factor, up))
        inner = F.linear(x, down)
        if drops:
            inner, factor = self._dropped(inner, batch, factor)
        return out.addmm_(inner, up.t(), alpha=factor)

    def replace(self, x: Tensor) -> Tensor:
        raise TypeError("A LoRA layer only adds to its base.")

    def _dropped(self, inner: Tensor, batch: int, factor: float) -> tuple[Tensor, float]:
        """The inner values after dropout and rank dropout, and the factor that compensates for dropped ranks."""
        if self.dropout:
            inner = F.dropout(inner, self.dropout)
        if self.rank_dropout:
            kept = (torch.rand(batch, self.dim, device=inner.device) > self.rank_dropout).to(inner.dtype)
            if self.is_conv:
                inner = inner * kept[:, :, None, None]
            else:
                inner = (inner.view(batch, -1, self.dim) * kept[:, None, :]).view(-1, self.dim)
            factor = factor / (1.0 - self.rank_dropout)
        return inner, factor

    @torch.no_grad()
    def limit_norm(self, limit: float) -> tuple[Tensor, Tensor]:
        """Scales both weights so that the norm of (alpha/dim)·up·down is at most `limit`.

        Returns the new norm and whether it was scaled, as 0-d tensors. The norm of a product of thin matrices follows
        from their small Gram matrices: |UD|² = tr((UᵀU)(DDᵀ)).
        """
        up, down = self.lora_up.flatten(1), self.lora_down.flatten(1)
        square = ((up.t() @ up) * (down @ down.t())).sum().clamp(min=0)
        norm = square.sqrt() * (self.alpha / self.dim)
        ratio = (limit / norm.clamp(min=limit / 2)).clamp(max=1.0)
        root = ratio.sqrt()
        self.lora_up.mul_(root)
        self.lora_down.mul_(root)
        return norm * ratio, ratio < 1

    @torch.no_grad()
    def delta(self) -> Tensor:
        """(alpha/dim)·up·down, in the shape of the base's weight, fp32."""
        base: Any = self.module
        product = self.lora_up.flatten(1).float() @ self.lora_down.flatten(1).float()
        return (product * (self.alpha / self.dim)).view(base.weight.shape)

    def tensors(self) -> dict[str, Tensor]:
        """The trained weights by their suffixes in a file."""
        return {"lora_down.weight": self.lora_down, "lora_up.weight": self.lora_up}

    def saved(self) -> dict[str, Tensor]:
        """The tensors to write into a file, without alpha."""
        return self.tensors()


def draw_down(tensor: Tensor, generator: torch.Generator) -> None:
    """Initialises `tensor` like kaiming_uniform with a = √5: uniform within ±1/√fan_in."""
    bound = 1.0 / math.sqrt(tensor[0].numel())
    tensor.uniform_(-bound, bound, generator=generator)


def _plain_layers(parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
    """The layers of a LoRA as in sd-scripts' networks.lora."""
    ranks = Ranks(config, parts.family.name)
    targets = find_targets(parts, config.unet, config.text_encoders, convolutions=True)
    chosen = [(target, ranks.of(target)) for target in targets]
    return lora_layers([(target, rank) for target, rank in chosen if rank is not None], config, seed)


def lora_layers(
    chosen: Sequence[tuple[Target, tuple[int, float | None]]], config: NetworkConfig, seed: int
) -> list[tuple[Target, Any]]:
    """A `LoRALayer` for each (target, (dim, alpha)), with the dropouts of `config`."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            target,
            LoRALayer(
                target.module,
                dim,
                alpha,
                dropout=config.dropout,
                rank_dropout=config.rank_dropout,
                module_dropout=config.module_dropout,
                generator=generator,
            ),
        )
        for target, (dim, alpha) in chosen
    ]


class PlainLoRA:
    """Implements `adapters.kind.Kind` for LoRA and, with conv_dim, LoCon, as in sd-scripts' networks.lora."""

    modules: Sequence[str] = PLAIN

    def name(self, config: NetworkConfig) -> str:
        """ "locon" when 3x3 convolutions are adapted, else "lora"."""
        return "locon" if config.conv_dim or config.arguments.get("conv_block_dims") else "lora"

    def layers(self, parts: Parts, config: NetworkConfig, seed: int) -> list[tuple[Target, Any]]:
        """The layers of text encoders and denoiser, with the rank of each."""
        return _plain_layers(parts, config, seed)


KIND = PlainLoRA()
