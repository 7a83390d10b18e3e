"""Text states of captions, kept while the text encoder does not change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from atelier.models.family import TextStates


class TextCache:
    """Remembers the states of each caption, so that a text encoder that is not trained runs once a caption.

    Shuffled captions make ever new texts: the oldest beyond `limit` are forgotten.
    """

    def __init__(self, encode: Callable[[Sequence[str]], TextStates], limit: int = 2048) -> None:
        self._encode = encode
        self._limit = limit
        self._states: OrderedDict[str, TextStates] = OrderedDict()

    def __call__(self, captions: Sequence[str]) -> TextStates:
        """States of a batch of captions, detached."""
        for caption in dict.fromkeys(captions):
            if caption not in self._states:
                # One by one: in a batch, the last bits of a caption's states can depend on what is beside it.
                with torch.no_grad():
                    encoded = self._encode([caption])
                pooled = None if encoded.pooled is None else encoded.pooled[0].clone()
                self._states[caption] = TextStates(encoded.hidden[0].clone(), pooled)
        chosen = [self._states[caption] for caption in captions]
        while len(self._states) > self._limit:
            self._states.popitem(last=False)
        pooled_rows = [states.pooled for states in chosen if states.pooled is not None]
        return TextStates(
            torch.stack([states.hidden for states in chosen]), torch.stack(pooled_rows) if pooled_rows else None
        )
