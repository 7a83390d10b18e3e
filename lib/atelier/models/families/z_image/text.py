"""Z-Image's captions: Qwen3's states, one layer before its last, of the caption in a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atelier.models.family import PromptEmbeds
from atelier.models.text.together import together

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
"""Qwen3's chat template for one message, with thinking allowed."""
MOST_TOKENS = 512


def caption_states(encoder: nn.Module, tokenizer: Any, captions: Sequence[str]) -> PromptEmbeds:
    """States [B, tokens, C] of captions, at most 512 tokens with the template; each is encoded alone, unpadded."""
    return together([PromptEmbeds(_states(encoder, tokenizer, caption)) for caption in captions])


def _states(encoder: nn.Module, tokenizer: Any, caption: str) -> Tensor:
    """[tokens, C]."""
    text = TEMPLATE.format(caption)
    ids = tokenizer(text, truncation=True, max_length=MOST_TOKENS, return_tensors="pt").input_ids
    device = next(encoder.parameters()).device
    with torch.no_grad():
        out = encoder(input_ids=ids.to(device), output_hidden_states=True, use_cache=False, return_dict=True)
    return out.hidden_states[-2][0]
