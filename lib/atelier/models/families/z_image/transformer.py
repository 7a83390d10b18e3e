"""diffusers' Z-Image transformer with the attention of the released file: one matrix for q, k and v."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers.transformer_z_image import FeedForward, ZImageTransformerBlock
from torch import Tensor, nn
from torch.nn import functional


class FusedAttention(nn.Module):
    """The attention of a main block: q, k and v side by side, RMS norms of the heads, and rotated positions."""

    def __init__(self, dim: int, heads: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.q_norm = RMSNorm(dim // heads, eps=eps)
        self.k_norm = RMSNorm(dim // heads, eps=eps)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, freqs_cis: Tensor | None = None
    ) -> Tensor:
        """Tokens [B, n, dim]; `attention_mask` [B, n] is True for tokens that are seen; `freqs_cis` [B, n, head/2]."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(hidden_states).chunk(3, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if freqs_cis is not None:
            q, k = _rotated(q, freqs_cis), _rotated(k, freqs_cis)
        mask = None if attention_mask is None else attention_mask[:, None, None, :]
        q, k, v = (part.transpose(1, 2) for part in (q, k, v.to(q.dtype)))
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(seen.transpose(1, 2).flatten(2))


class RefinerAttention(FusedAttention):
    """That of a refiner, which gets no adapter."""


class MainFeedForward(FeedForward):
    """The feed-forward layers of a main block, which get adapters."""


class ZImageTransformer(ZImageTransformer2DModel):
    """ZImageTransformer2DModel with fused attention, called as it is."""

    # diffusers reads the names of its arguments.
    @functools.wraps(ZImageTransformer2DModel.__init__)  # type: ignore[misc]
    def __init__(self, *given: Any, **config: Any) -> None:
        super().__init__(*given, **config)
        for block in self.modules():
            if isinstance(block, ZImageTransformerBlock):
                heads = block.dim // block.head_dim
                block.attention = RefinerAttention(block.dim, heads)
        for block in self.layers:
            heads = block.dim // block.head_dim
            block.attention = FusedAttention(block.dim, heads)
            block.feed_forward = MainFeedForward(block.dim, block.feed_forward.w1.out_features)


def blocks_of(transformer: nn.Module) -> list[nn.Module]:
    """The refiners' and the main blocks, in the order of the modules."""
    return [module for module in transformer.modules() if isinstance(module, ZImageTransformerBlock)]


def _rotated(x: Tensor, freqs: Tensor) -> Tensor:
    """Pairs of channels turned by the angles of their positions: x [B, n, heads, head], `freqs` [B, n, head/2]."""
    with torch.autocast(x.device.type, enabled=False):
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * freqs.unsqueeze(2)).flatten(3).type_as(x)
