"""Puts the prompt embeddings of single captions together into a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from atelier.models.family import PromptEmbeds


def together(rows: Sequence[PromptEmbeds]) -> PromptEmbeds:
    """A batch of `rows`, whose `hidden` is [tokens, C] and `pooled` [C].

    Captions of different lengths, which some families have, are filled up with zeros, and `lengths` tells them apart.
    """
    states = [row.hidden for row in rows]
    pooled = [row.pooled for row in rows if row.pooled is not None]
    counts = [len(state) for state in states]
    same = len(set(counts)) == 1
    return PromptEmbeds(
        torch.stack(states) if same else pad_sequence(states, batch_first=True),
        torch.stack(pooled) if pooled else None,
        None if same else tuple(counts),
    )
