"""Text states of captions, kept while the text encoder does not change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from atelier.models.family import PromptEmbeds

LIMIT = 256 * 2**20
"""Bytes: some 840 captions for SDXL in half precision, 2,200 for SD 1."""


class TextCache:
    """Remembers the states of each caption, so that a text encoder that is not trained runs once a caption.

    Shuffled captions make ever new texts: the oldest beyond `limit` bytes, which lie on the device, are forgotten.
    """

    def __init__(self, encode: Callable[[Sequence[str]], PromptEmbeds], limit: int = LIMIT) -> None:
        self._encode = encode
        self._limit = limit
        self._states: OrderedDict[str, PromptEmbeds] = OrderedDict()
        self._bytes = 0

    def __call__(self, captions: Sequence[str]) -> PromptEmbeds:
        """States of a batch of captions, detached."""
        for caption in dict.fromkeys(captions):
            if caption not in self._states:
                # One by one: in a batch, the last bits of a caption's states can depend on what is beside it.
                with torch.no_grad():
                    encoded = self._encode([caption])
                pooled = None if encoded.pooled is None else encoded.pooled[0].clone()
                self._states[caption] = states = PromptEmbeds(encoded.hidden[0].clone(), pooled)
                self._bytes += _size(states)
        chosen = [self._states[caption] for caption in captions]
        while self._bytes > self._limit and self._states:
            self._bytes -= _size(self._states.popitem(last=False)[1])
        pooled_rows = [states.pooled for states in chosen if states.pooled is not None]
        return PromptEmbeds(
            torch.stack([states.hidden for states in chosen]), torch.stack(pooled_rows) if pooled_rows else None
        )


def _size(states: PromptEmbeds) -> int:
    tensors = [states.hidden] if states.pooled is None else [states.hidden, states.pooled]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
