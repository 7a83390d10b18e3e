"""Views of a WebUI's tensors, which follow them when the WebUI moves or replaces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atelier.models.family import Family, Parts
from atelier.models.views.from_ldm import Weights, parts_from_weights
from atelier.models.views.view import alias


class Borrowed:
    """Parts built over `read_weights()`, and the means to follow the host when its tensors become other ones.

    `tensors()` lists the host's own tensors in a fixed order: their addresses tell cheaply whether anything moved.
    """

    def __init__(
        self,
        family: Family,
        read_weights: Callable[[], Weights],
        tensors: Callable[[], list[Tensor]],
        tokenizers: list[Any],
        prediction_type: str,
        zero_terminal_snr: bool,
    ) -> None:
        self._read_weights = read_weights
        self._tensors = tensors
        self._addresses = addresses(tensors())
        self.parts: Parts = parts_from_weights(family, read_weights(), tokenizers, prediction_type, zero_terminal_snr)
        # Kept, as whoever computes with a module may put other parameters in its place for a while.
        self._views = {
            part: dict(module.named_parameters(remove_duplicate=False))
            for part, module in modules_of(self.parts).items()
        }

    def moved(self) -> bool:
        """True when the host's tensors are others than the views point at."""
        return addresses(self._tensors()) != self._addresses

    def follow(self) -> bool:
        """Points the views at the host's tensors again if any has moved. True when one had."""
        now = addresses(self._tensors())
        if now == self._addresses:
            return False
        self._point(self._read_weights())
        self._addresses = now
        return True

    def let_go(self) -> None:
        """Empties the views, so that they keep no memory of the host alive."""
        for views in self._views.values():
            for parameter in views.values():
                parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)

    def rest(self) -> None:
        """Empties the views for a while: a host that moves its model would not get the old memory back.

        `follow` fills them again.
        """
        self.let_go()
        self._addresses = ()

    def _point(self, weights: Weights) -> None:
        from atelier.models.text.clip_names import names_of_module

        for part, module in modules_of(self.parts).items():
            given: Mapping[str, Tensor] = names_of_module(module, weights.tensors[part])
            for name, parameter in self._views[part].items():
                parameter.data = alias(given[name])
            device = next(module.parameters()).device
            for buffer in module.buffers():
                buffer.data = buffer.data.to(device)


def addresses(tensors: list[Tensor]) -> tuple[int, ...]:
    """Where each tensor's memory begins."""
    return tuple(tensor.data_ptr() for tensor in tensors)


def modules_of(parts: Parts) -> dict[str, nn.Module]:
    """The modules of `parts` under the names that `models.build` uses."""
    found: dict[str, nn.Module] = {"unet": parts.denoiser}
    for index, encoder in enumerate(parts.text_encoders):
        found["text_encoder" if index == 0 else f"text_encoder_{index + 1}"] = encoder
    if parts.vae is not None:
        found["vae"] = parts.vae
    return found
