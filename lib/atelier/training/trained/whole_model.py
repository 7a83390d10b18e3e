"""Trains the whole model, on a copy of the base, since the WebUI keeps using its own until the result is loaded."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.config.settings.schema import labelled
from atelier.hosts.contract import Host, Lease
from atelier.hosts.powers import make_room
from atelier.models.checkpoints.size import numbers_of
from atelier.models.family import Parts
from atelier.training.trained import unet_blocks


class OwnedLease(AbstractContextManager[Parts]):
    """A loan that ends as soon as the base is copied. Its turns only wait in the host's queue.

    When the host loads another checkpoint, the run goes on, since it does not use the host's model.
    """

    def __init__(self, host: Host, lease: Lease, dtype: torch.dtype) -> None:
        self._host = host
        self._lease = lease
        self._dtype = dtype
        self.room = 0
        """Bytes that a step needs in addition to what the run has in memory; 0 for none."""

    def __enter__(self) -> Parts:
        with self._lease as borrowed:
            # Weights, gradients and the optimizer's two moments.
            self._host.memory.ask(4 * numbers_of(borrowed.parameters()) * self._dtype.itemsize)
            with self._lease.turn():
                return _copied(borrowed, self._dtype)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing, since nothing is borrowed any more."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits in the host's queue, and frees memory of a model that the host has loaded for a picture since."""
        with self._host.turn():
            if self.room and self._host.memory.free() < self.room:
                make_room(self._host, self.room)
            yield


class WholeModel(nn.Module):
    """The trained UNet, and text encoders if asked for. It has the methods of an adapter network for a session."""

    def __init__(
        self, parts: Parts, train_text: bool, freeze_blocks: Sequence[str] = (), block_lr: str | None = None
    ) -> None:
        """`freeze_blocks` and `block_lr`: the settings with these names, for the UNet."""
        super().__init__()
        self._freeze_blocks = list(freeze_blocks)
        self._block_lr = block_lr
        self.unet = parts.denoiser
        self.text_encoders = nn.ModuleList(parts.text_encoders if train_text else [])
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        self.parts = parts
        self._learning = {name for name, _ in self.named_parameters()}

    @contextmanager
    def attached(self) -> Iterator[WholeModel]:
        """Does nothing: the modules themselves are trained."""
        yield self

    def parameter_groups(self, unet_lr: float, text_encoder_lrs: Sequence[float]) -> list[dict[str, Any]]:
        """Groups for an optimizer: text encoders first, then the UNet. Parts with the learning rate 0 and frozen blocks
        are left out.

        Raises `AtelierError` for blocks that the UNet does not have, and when nothing is left to train.
        """
        groups: list[dict[str, Any]] = []
        for index, encoder in enumerate(self.text_encoders):
            rate = text_encoder_lrs[min(index, len(text_encoder_lrs) - 1)]
            name = "text_encoder" if index == 0 else f"text_encoder_{index + 1}"
            groups.append({"params": list(encoder.parameters()), "lr": rate, "name": name})
        groups += self._unet_groups(unet_lr)
        kept = [group for group in groups if group["lr"] != 0 and group["params"]]
        learning = {id(parameter) for group in kept for parameter in group["params"]}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in learning)
        if not kept:
            raise AtelierError("There is nothing to train. Give the UNet or the text encoder a learning rate above 0.")
        self._learning = {name for name, parameter in self.named_parameters() if id(parameter) in learning}
        return kept

    def _unet_groups(self, rate: float) -> list[dict[str, Any]]:
        named = dict(self.unet.named_parameters())
        frozen = unet_blocks.frozen(list(named), self._freeze_blocks)
        free = {name: parameter for name, parameter in named.items() if name not in frozen}
        if not self._block_lr:
            return [{"params": list(free.values()), "lr": rate, "name": "unet"}]
        rates = unet_blocks.block_rates(self._block_lr, self.parts.family.name)
        groups = [{"params": [], "lr": lr, "name": f"unet_block_{index}"} for index, lr in enumerate(rates)]
        for name, parameter in free.items():
            groups[unet_blocks.place_in_block_lr(name)]["params"].append(parameter)  # type: ignore[attr-defined]
        return groups

    def rest_text(self) -> None:
        """Ends the training of the text encoders (stop_text_encoder_training)."""
        for parameter in self.text_encoders.parameters():
            parameter.grad = None
            parameter.requires_grad_(False)

    def trained_tensors(self) -> dict[str, Tensor]:
        """The trained weights, by name."""
        return {name: weight.detach() for name, weight in self.named_parameters() if name in self._learning}

    @torch.no_grad()
    def load_trained_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `trained_tensors`. Raises `AtelierError` when they belong to another model."""
        own = {name: weight for name, weight in self.named_parameters() if name in self._learning}
        if set(own) != set(tensors):
            raise AtelierError("The saved state belongs to another kind of training. Start a new run.")
        for name, parameter in own.items():
            parameter.copy_(tensors[name])

    def apply_max_norm(self, limit: float) -> None:
        raise AtelierError(f"{labelled('scale_weight_norms')} is for adapters. Empty it to train the whole model.")


def _copied(parts: Parts, dtype: torch.dtype) -> Parts:
    """A copy of the parts; those that are trained in `dtype`, the VAE as it is."""
    return replace(
        parts,
        denoiser=_cast(copy.deepcopy(parts.denoiser), dtype),
        text_encoders=[_cast(copy.deepcopy(encoder), dtype) for encoder in parts.text_encoders],
        vae=copy.deepcopy(parts.vae),
    )


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """In `dtype`, by torch's own `to`: diffusers' warns of parts to keep in float32, of which there are none."""
    return nn.Module.to(module, dtype=dtype)
