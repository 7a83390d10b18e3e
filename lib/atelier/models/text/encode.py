"""From captions to text states with one CLIP text encoder, in chunks of 75 tokens as kohya does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.models.text.clip_names import body
from atelier.models.text.emphasis import parse_emphasis
from atelier.models.transfer import to_device

CHUNK = 75
"""Tokens of the caption in one pass of the encoder; with BOS and EOS it sees 77."""
TOKEN_LENGTHS = (75, 150, 225)


def token_ids(tokenizer: Any, captions: Sequence[str], max_token_length: int) -> Tensor:
    """Ids [captions, chunks, 77]. Every chunk begins with BOS and ends with EOS or padding.

    One tokenisation of the whole caption, cut to `max_token_length` tokens, is dealt out 75 at a time. A
    tokenizer that pads with EOS (CLIP) fills up with it; one with a padding token of its own (OpenCLIP) has
    one EOS in every chunk, also in an empty one.
    Raises `AtelierError` when `max_token_length` is not 75, 150 or 225.
    """
    if max_token_length not in TOKEN_LENGTHS:
        raise AtelierError(f"max_token_length is {max_token_length}; it can be 75, 150 or 225.")
    ids = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=max_token_length + 2,
        return_tensors="pt",
    ).input_ids
    return chunked(ids, int(tokenizer.eos_token_id), int(tokenizer.pad_token_id))


def weighted_token_ids(tokenizer: Any, captions: Sequence[str], max_token_length: int) -> tuple[Tensor, Tensor]:
    """Ids [captions, chunks, 77] of captions with emphasis, and the weight of every joined position [captions, 2 + n].

    The pieces of a caption are tokenised one by one. BOS, EOS and padding weigh 1.
    """
    if max_token_length not in TOKEN_LENGTHS:
        raise AtelierError(f"max_token_length is {max_token_length}; it can be 75, 150 or 225.")
    rows: list[list[int]] = []
    weights = torch.ones(len(captions), max_token_length + 2)
    for index, caption in enumerate(captions):
        ids: list[int] = []
        for text, weight in parse_emphasis(caption):
            piece = list(tokenizer(text, add_special_tokens=False).input_ids)[: max_token_length - len(ids)]
            weights[index, 1 + len(ids) : 1 + len(ids) + len(piece)] = weight
            ids += piece
        filled = [int(tokenizer.bos_token_id), *ids, int(tokenizer.eos_token_id)]
        rows.append(filled + [int(tokenizer.pad_token_id)] * (max_token_length + 2 - len(filled)))
    chunks = chunked(torch.tensor(rows), int(tokenizer.eos_token_id), int(tokenizer.pad_token_id))
    return chunks, weights


def caption_ids(
    tokenizer: Any, captions: Sequence[str], max_token_length: int, weighted: bool
) -> tuple[Tensor, Tensor | None]:
    """Ids of captions, and their weights if emphasis is to be read."""
    if weighted:
        return weighted_token_ids(tokenizer, captions, max_token_length)
    return token_ids(tokenizer, captions, max_token_length), None


def emphasised(states: Tensor, weights: Tensor | None) -> Tensor:
    """States [B, n, C] times the weights [B, n] of their positions, as kohya does it: the mean is not restored."""
    return states if weights is None else states * weights.to(states).unsqueeze(-1)


def chunked(ids: Tensor, eos: int, pad: int) -> Tensor:
    """Ids [B, 2 + 75·n] (BOS … EOS/padding) as chunks [B, n, 77]."""
    count = (ids.shape[1] - 2) // CHUNK
    if count == 1:
        return ids.unsqueeze(1)
    inner = ids[:, 1:-1].reshape(ids.shape[0], count, CHUNK)
    first = ids[:, :1].unsqueeze(1).expand(-1, count, 1)
    last = ids[:, -1:].unsqueeze(1).expand(-1, count, 1)
    chunks = torch.cat([first, inner, last], dim=2)
    if pad != eos:
        full = (chunks[:, :, -2] != eos) & (chunks[:, :, -2] != pad)
        chunks[:, :, -1] = torch.where(full, torch.full_like(chunks[:, :, -1], eos), chunks[:, :, -1])
        empty = chunks[:, :, 1] == pad
        chunks[:, :, 1] = torch.where(empty, torch.full_like(chunks[:, :, 1], eos), chunks[:, :, 1])
    return chunks


def hidden_states(encoder: nn.Module, chunks: Tensor, layer: int | None, final_norm: bool = True) -> Tensor:
    """Text states [B, 2 + 75·n, C] of chunks [B, n, 77].

    `layer` None or 1 is the last layer, N the Nth from the end; the final layer norm follows if `final_norm`.
    Of several chunks, the first BOS, every chunk's 75 tokens and the last position are kept.
    """
    batch, count, length = chunks.shape
    flat = to_device(chunks.reshape(batch * count, length), next(encoder.parameters()).device)
    if layer in (None, 1) and final_norm:
        states = encoder(input_ids=flat, return_dict=True).last_hidden_state
    else:
        every = encoder(input_ids=flat, output_hidden_states=True, return_dict=True).hidden_states
        states = pick_layer(encoder, every, layer, final_norm)
    return joined(states.reshape(batch, count, length, -1))


def hidden_and_pooled(encoder: nn.Module, chunks: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """SDXL's use of an encoder: the `layer`th state from the end without the final norm, and the pooled state.

    `encoder` is a CLIPTextModelWithProjection. The pooled state [B, P] is that of the first chunk's EOS.
    """
    batch, count, length = chunks.shape
    flat = to_device(chunks.reshape(batch * count, length), next(encoder.parameters()).device)
    out = encoder(input_ids=flat, output_hidden_states=True, return_dict=True)
    states = pick_layer(encoder, out.hidden_states, layer, final_norm=False)
    pooled = out.text_embeds.reshape(batch, count, -1)[:, 0]
    return joined(states.reshape(batch, count, length, -1)), pooled


def pick_layer(encoder: nn.Module, every: Sequence[Tensor], layer: int | None, final_norm: bool) -> Tensor:
    """The `layer`th state from the end out of `hidden_states`, whose first entry is the embeddings."""
    number = layer or 1
    if not 1 <= number < len(every):
        raise AtelierError(f"clip_skip is {number}; this text encoder has {len(every) - 1} layers.")
    states = every[-number]
    return body(encoder).final_layer_norm(states) if final_norm else states


def joined(states: Tensor) -> Tensor:
    """States [B, n, 77, C] of chunks as one sequence [B, 2 + 75·n, C]: BOS, all tokens, the last position."""
    if states.shape[1] == 1:
        return states[:, 0]
    inner = states[:, :, 1:-1].flatten(1, 2)
    return torch.cat([states[:, 0, :1], inner, states[:, -1, -1:]], dim=1)


def needed_length(tokenizers: Sequence[Any], captions: Sequence[str]) -> int:
    """The least `max_token_length` that cuts none of the captions, or 225 when all would."""
    ids = tokenizers[0](list(captions), truncation=True, max_length=TOKEN_LENGTHS[-1] + 2).input_ids
    longest = max(len(row) for row in ids) - 2
    return next((length for length in TOKEN_LENGTHS if longest <= length), TOKEN_LENGTHS[-1])
