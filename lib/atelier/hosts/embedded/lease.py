"""The loan of the embedded host's base."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import TracebackType

import torch
from torch import nn

from atelier.config.errors import AtelierError
from atelier.hosts.contract import BaseGone
from atelier.hosts.embedded.loaded import Lender, LoadedModel
from atelier.models.family import Parts
from atelier.models.out_of_memory import is_out_of_memory
from atelier.models.views.view import view_parts

log = logging.getLogger(__name__)


class EmbeddedLease(AbstractContextManager[Parts]):
    """Views over the loaded base. They follow it: emptied when another checkpoint is loaded (so that its memory
    is free), pointed at the new tensors when the same checkpoint is loaded again."""

    def __init__(self, host: Lender, wanted: frozenset[str]) -> None:
        self._host = host
        self._wanted = wanted
        self._identity = ""
        self._views: Parts | None = None
        self._source: LoadedModel | None = None
        self._lent: list[dict[str, torch.Tensor]] = []
        """The views' own tensors, by module and name."""
        self._rests = False

    can_offload_denoiser = True

    def __enter__(self) -> Parts:
        with self._host.queue:
            model = self._host.current
            if model is None:
                raise AtelierError("No model is loaded. Choose a checkpoint at the top of the page.")
            views = self._view(model.parts)
            if self._rests:
                views.computes_on = self._host.device
            self._identity = model.identity
            self._views = views
            self._lent = [_tensors(module) for module in views.modules]
            self._source = model
            self._host.leases.append(self)
            return views

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._host.queue:
            if self in self._host.leases:
                self._host.leases.remove(self)
            self.let_go()  # what still has the views, as a paused run's network, keeps no memory of the base
            self._views = None
            self._lent = []
            if self._rests:
                self._bring_back()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The host's queue. Raises `BaseGone` when another checkpoint is loaded, or none."""
        with self._host.queue:
            if self._views is None:
                raise AtelierError("The run no longer has the model: its loan has ended.")
            model = self._host.current
            if model is None or model.identity != self._identity:
                raise BaseGone(
                    f"The model in training is no longer loaded: the page now has "
                    f"{model.title if model else 'none'}. Choose it again to go on."
                )
            moved = self._rests and self._host.send_unet_to_rest()
            if moved or model is not self._source:
                self._point_at(model)
            yield

    def offload_denoiser(self) -> None:
        """Keeps the host's UNet and its view in CPU memory during turns, from the next turn on.

        The host brings it back when it draws, and when the lease ends.
        """
        self._rests = True
        if self._views is not None:
            self._views.computes_on = self._host.device

    def _bring_back(self) -> None:
        """The device may still be full of what was trained: then the UNet comes when a picture is drawn."""
        try:
            self._host.load_denoiser()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.info("the UNet stays in CPU memory until it is needed: %s", error)

    def let_go(self) -> None:
        """Empties the views. Called by the host, inside its queue, before it loads another checkpoint."""
        if self._views is None:
            return
        self._source = None
        for lent in self._lent:
            for tensor in lent.values():
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)

    def _view(self, parts: Parts) -> Parts:
        """Views over the wanted parts; the tokenizers go with the text encoders."""
        text = "text_encoder" in self._wanted
        wanted = replace(
            parts,
            text_encoders=parts.text_encoders if text else [],
            tokenizers=parts.tokenizers if text else [],
            vae=parts.vae if "vae" in self._wanted else None,
        )
        return view_parts(wanted)

    def _point_at(self, model: LoadedModel) -> None:
        assert self._views is not None
        fresh = self._view(model.parts)
        for lent, source in zip(self._lent, fresh.modules, strict=True):
            tensors = _tensors(source)
            for name, tensor in lent.items():
                tensor.data = tensors[name].data
        self._source = model


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
