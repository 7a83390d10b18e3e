"""Encodes captions with one CLIP text encoder, in chunks of 75 tokens as in kohya's scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atelier.config.errors import Problem, SettingsError
from atelier.models.text.clip_names import body
from atelier.models.text.emphasis import parse_emphasis
from atelier.models.transfer import to_device

CHUNK = 75
"""Tokens of the caption in one pass of the encoder. With BOS and EOS it gets 77."""
TOKEN_LENGTHS = (75, 150, 225)


def token_ids(tokenizer: Any, captions: Sequence[str], max_token_length: int) -> Tensor:
    """Token ids [captions, chunks, 77]. Every chunk starts with BOS and ends with EOS or padding.

    The whole caption is tokenised once, cut to `max_token_length` tokens, and split into chunks of 75. A tokenizer that
    pads with EOS (CLIP) fills up with EOS. A tokenizer with a padding token of its own (OpenCLIP) has one EOS in every
    chunk, even in an empty one. Raises `AtelierError` when `max_token_length` is not 75, 150 or 225.
    """
    if max_token_length not in TOKEN_LENGTHS:
        raise SettingsError([Problem("max_token_length", max_token_length, "it can be 75, 150 or 225")])
    ids = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=max_token_length + 2,
        return_tensors="pt",
    ).input_ids
    return chunked(ids, int(tokenizer.eos_token_id), int(tokenizer.pad_token_id))


def weighted_token_ids(tokenizer: Any, captions: Sequence[str], max_token_length: int) -> tuple[Tensor, Tensor]:
    """Token ids [captions, chunks, 77] of captions with emphasis, and weights [captions, 2 + n] of joined positions.

    The parts of a caption with different weights are tokenised one by one. BOS, EOS and padding have the weight 1.
    """
    if max_token_length not in TOKEN_LENGTHS:
        raise SettingsError([Problem("max_token_length", max_token_length, "it can be 75, 150 or 225")])
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
    """Token ids of captions, and their weights when captions have emphasis (`weighted`)."""
    if weighted:
        return weighted_token_ids(tokenizer, captions, max_token_length)
    return token_ids(tokenizer, captions, max_token_length), None


def emphasised(states: Tensor, weights: Tensor | None) -> Tensor:
    """Embeddings [B, n, C] times the weights [B, n] of their positions. As in kohya's, the mean is not restored."""
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
    """Prompt embeddings [B, 2 + 75·n, C] of chunks [B, n, 77].

    `layer` None or 1 is the last layer, N the Nth from the end. With `final_norm`, the final layer norm is applied. Of
    several chunks, the first BOS, the 75 tokens of every chunk and the last position are kept.
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
    """For SDXL: the output of the `layer`th layer from the end without the final norm, and the pooled embedding.

    `encoder` is a CLIPTextModelWithProjection. The pooled embedding [B, P] is that of the first chunk's EOS.
    """
    batch, count, length = chunks.shape
    flat = to_device(chunks.reshape(batch * count, length), next(encoder.parameters()).device)
    out = encoder(input_ids=flat, output_hidden_states=True, return_dict=True)
    states = pick_layer(encoder, out.hidden_states, layer, final_norm=False)
    pooled = out.text_embeds.reshape(batch, count, -1)[:, 0]
    return joined(states.reshape(batch, count, length, -1)), pooled


def pick_layer(encoder: nn.Module, every: Sequence[Tensor], layer: int | None, final_norm: bool) -> Tensor:
    """The `layer`th layer's output from the end. `every`: hidden_states, whose first entry is the token embeddings."""
    number = layer or 1
    if not 1 <= number < len(every):
        allowed = f"this text encoder has {len(every) - 1} layers"
        raise SettingsError([Problem("clip_skip", number, allowed)])
    states = every[-number]
    return body(encoder).final_layer_norm(states) if final_norm else states


def joined(states: Tensor) -> Tensor:
    """Embeddings [B, n, 77, C] of chunks as one sequence [B, 2 + 75·n, C]: BOS, all tokens, the last position."""
    if states.shape[1] == 1:
        return states[:, 0]
    inner = states[:, :, 1:-1].flatten(1, 2)
    return torch.cat([states[:, 0, :1], inner, states[:, -1, -1:]], dim=1)


def needed_length(tokenizers: Sequence[Any], captions: Sequence[str]) -> int:
    """The smallest `max_token_length` that cuts no caption, or 225 if there is none."""
    ids = tokenizers[0](list(captions), truncation=True, max_length=TOKEN_LENGTHS[-1] + 2).input_ids
    longest = max(len(row) for row in ids) - 2
    return next((length for length in TOKEN_LENGTHS if longest <= length), TOKEN_LENGTHS[-1])
