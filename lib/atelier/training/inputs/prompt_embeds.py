"""A cache of prompt embeddings, for text encoders that are not trained, in this run and for later runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atelier.data.tensor_cache import TensorCache
from atelier.models.family import Parts, PromptEmbeds
from atelier.models.text.together import together
from atelier.models.transfer import to_device
from atelier.training.context import RunContext
from atelier.training.device.plan import Plan

LIMIT = 256 * 2**20
"""Bytes of the cache on the device: about 840 captions for SDXL in half precision, 2,200 for SD 1."""
FOLDER = "text"
"""Folder in the host's cache folder."""


class PromptCache:
    """Remembers the embeddings of each caption, so that a text encoder that is not trained runs once per caption.

    Shuffled captions make ever new texts, so the oldest embeddings beyond `limit` bytes on the device are dropped. With
    a `disk` they are found there again, even by a later run, and the encoder may not have to be moved to the device.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[str]], PromptEmbeds],
        limit: int = LIMIT,
        disk: TensorCache | None = None,
        device: torch.device | None = None,
    ) -> None:
        """`device`: where embeddings from the disk are moved to."""
        self.encode = encode
        self._limit = limit
        self._disk = disk
        self._device = device or torch.device("cpu")
        self._states: OrderedDict[str, PromptEmbeds] = OrderedDict()
        self._bytes = 0

    def __call__(self, captions: Sequence[str]) -> PromptEmbeds:
        """Embeddings of a batch of captions, detached."""
        for caption in dict.fromkeys(captions):
            if caption not in self._states:
                self._states[caption] = states = self._kept(caption) or self._encoded(caption)
                self._bytes += _size(states)
        chosen = [self._states[caption] for caption in captions]
        while self._bytes > self._limit and self._states:
            self._bytes -= _size(self._states.popitem(last=False)[1])
        return together(chosen)

    def _encoded(self, caption: str) -> PromptEmbeds:
        # One by one: in a batch, the last bits of a caption's embeddings can depend on the other captions.
        with torch.no_grad():
            encoded = self.encode([caption])
        pooled = None if encoded.pooled is None else encoded.pooled[0].clone()
        states = PromptEmbeds(encoded.hidden[0].clone(), pooled)
        if self._disk is not None:
            # The pooled embedding is written first, so that both exist when the hidden one does.
            if pooled is not None:
                self._disk.put(f"pooled/{caption}", pooled)
            self._disk.put(f"hidden/{caption}", states.hidden)
        return states

    def _kept(self, caption: str) -> PromptEmbeds | None:
        """The embeddings that this or an earlier run has written to the disk."""
        if self._disk is None:
            return None
        hidden = self._disk.get(f"hidden/{caption}")
        if hidden is None:
            return None
        pooled = self._disk.get(f"pooled/{caption}")
        return PromptEmbeds(self._moved(hidden), None if pooled is None else self._moved(pooled))

    def _moved(self, tensor: Tensor) -> Tensor:
        return to_device(tensor, self._device).clone()


def prompt_cache(context: RunContext, parts: Parts, plan: Plan) -> PromptCache:
    """The cache of a session, on disk if the settings ask for it and no text encoder is trained.

    On disk an embedding is found by its caption, the family, the base's identity, the precision, and the settings on
    which it depends.
    """
    settings = context.job.settings
    length = settings.max_token_length or 75

    def encode(captions: Sequence[str]) -> PromptEmbeds:
        with plan.on_device(parts.device, *parts.text_encoders):
            return parts.family.encode(parts, captions, settings.clip_skip, length, settings.weighted_captions)

    disk = None
    if settings.cache_text_encoder_outputs_to_disk and not context.trains_text:
        kinds = [str(next(encoder.parameters()).dtype) for encoder in parts.text_encoders]
        identity = (
            parts.family.name, context.base.identity, *kinds, plan.precision, parts.device.type, settings.clip_skip,
            length, settings.weighted_captions,
        )  # fmt: skip
        disk = TensorCache(context.host.folders.cache / FOLDER, repr(identity), what="Prompt embeddings")
    return PromptCache(encode, disk=disk, device=parts.device)


def _size(states: PromptEmbeds) -> int:
    tensors = [states.hidden] if states.pooled is None else [states.hidden, states.pooled]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
