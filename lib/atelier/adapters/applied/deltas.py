"""Computes the weight change of an adapter file, for every kind of adapter that the WebUIs know.

The formulas are those of the papers, with the tensors as LyCORIS stores them
(https://github.com/KohakuBlueleaf/LyCORIS). Shapes: a base weight is [out, in] or [out, in, k, k]; its change has the
same shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from atelier.config.errors import AtelierError

Tensors = Mapping[str, Tensor]


def weight_change(tensors: Tensors, base: Tensor) -> Tensor:
    """The change of the weight `base` by one layer's adapter at full strength, in the precision of `base`.

    `tensors`: {suffix: tensor} as returned by `layouts.layers_of`. Raises `AtelierError` for an unknown kind of adapter
    and for shapes that do not fit the base.
    """
    values = {suffix: tensor.to(base.device, base.dtype) for suffix, tensor in tensors.items()}
    try:
        change = _change(values, base)
        if change is None:
            raise AtelierError(f"an adapter with the tensors {', '.join(sorted(tensors))} is of an unknown kind")
        if change.numel() != base.numel():
            raise AtelierError(f"it changes a weight of {change.numel()} values, the base has {list(base.shape)}")
        change = change.reshape(base.shape)
        if "dora_scale" in values:
            change = _decomposed(base + change, values["dora_scale"]) - base
    except (RuntimeError, IndexError, ValueError) as error:
        raise AtelierError(f"its shapes do not fit the base's {list(base.shape)} ({error})") from error
    return change


def _change(values: Tensors, base: Tensor) -> Tensor | None:
    if "lora_up.weight" in values:
        return lora(values)
    if "hada_w1_a" in values:
        return loha(values)
    if "lokr_w1" in values or "lokr_w1_a" in values:
        return lokr(values)
    if "oft_blocks" in values:
        return rotation(values, base)
    if "on_input" in values:
        return ia3(values, base)
    if "diff" in values:
        return values["diff"]
    return None


def scale_of(values: Tensors, dim: int) -> float:
    """alpha / dim; 1 when alpha is missing or 0."""
    alpha = values.get("alpha")
    return 1.0 if alpha is None or float(alpha) == 0 else float(alpha) / dim


def lora(values: Tensors) -> Tensor:
    """up · down, or up · mid · down with a Tucker core `mid` [r, r, k, k]."""
    up, down = values["lora_up.weight"], values["lora_down.weight"]
    scale = scale_of(values, down.shape[0])
    mid = values.get("lora_mid.weight")
    if mid is None:
        product = up.flatten(1) @ down.flatten(1)
        return (product * scale).reshape(up.shape[0], *down.shape[1:])
    return torch.einsum("oi,ijhw,jc->ochw", up.flatten(1), mid, down.flatten(1)) * scale


def loha(values: Tensors) -> Tensor:
    """(w1a · w1b) ⊙ (w2a · w2b), each with an optional Tucker core."""
    factors = []
    for side in ("1", "2"):
        a, b, core = values[f"hada_w{side}_a"], values[f"hada_w{side}_b"], values.get(f"hada_t{side}")
        factors.append(a @ b if core is None else torch.einsum("ijhw,io,jc->ochw", core, a, b))
    return factors[0] * factors[1] * scale_of(values, values["hada_w1_b"].shape[0])


def lokr(values: Tensors) -> Tensor:
    """w1 ⊗ w2, each a full matrix or a product. alpha counts only when one of them is a product."""
    dim = None
    first = values.get("lokr_w1")
    if first is None:
        dim = values["lokr_w1_b"].shape[0]
        first = values["lokr_w1_a"] @ values["lokr_w1_b"]
    second = values.get("lokr_w2")
    if second is None:
        a, b, core = values["lokr_w2_a"], values["lokr_w2_b"], values.get("lokr_t2")
        dim = b.shape[0]
        if core is not None:
            second = torch.einsum("ijhw,io,jc->ochw", core, a, b)
        else:
            second = (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:])
    if second.ndim == 4:
        first = first[:, :, None, None]
    return torch.kron(first, second.contiguous()) * (1.0 if dim is None else scale_of(values, dim))


def ia3(values: Tensors, base: Tensor) -> Tensor:
    """The base times a factor per input or output channel."""
    factor = values["weight"].flatten()
    shape = [1] * base.ndim
    shape[1 if bool(values["on_input"]) else 0] = -1
    return base * factor.view(shape)


def rotation(values: Tensors, base: Tensor) -> Tensor:
    """OFT: blocks of output channels, rotated by R = (I + Q)(I − Q)⁻¹ with skew Q. BOFT: in butterfly stages."""
    blocks = values["oft_blocks"]
    skew = blocks - blocks.transpose(-1, -2)
    limit = float(values["alpha"]) * base.shape[0] if "alpha" in values else 0.0
    length = skew.norm() + 1e-8
    if limit > 0 and length > limit:
        skew = skew * (limit / length)
    identity = torch.eye(blocks.shape[-1], device=base.device, dtype=torch.float32)
    skew = skew.float()
    turn = ((identity + skew) @ torch.linalg.inv(identity - skew)).to(base.dtype)
    turned = _butterfly(turn, base) if blocks.ndim == 4 else _turn_blocks(turn, base)
    if "rescale" in values:
        turned = turned * values["rescale"].view(-1, *[1] * (base.ndim - 1))
    return turned - base


def _turn_blocks(turn: Tensor, base: Tensor) -> Tensor:
    count, size, _ = turn.shape
    rows = base.reshape(count, size, -1)
    return torch.einsum("knm,knr->kmr", turn, rows).reshape(base.shape)


def _butterfly(turn: Tensor, base: Tensor) -> Tensor:
    size = turn.shape[-1]
    rows = base.flatten(1)
    for stage, blocks in enumerate(turn):
        span = 2**stage * (size // 2)
        rows = rows.unflatten(0, (-1, 2, span)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, size))
        rows = torch.einsum("bij,bjr->bir", blocks, rows)
        rows = rows.flatten(0, 1).unflatten(0, (-1, span, 2)).transpose(1, 2).flatten(0, 2)
    return rows.reshape(base.shape)


def _decomposed(merged: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA (arXiv:2402.09353): the merged weight's direction times a learned length per output or input channel."""
    on_output = magnitude.ndim < 2 or magnitude.shape[0] == merged.shape[0] and magnitude[0].numel() == 1
    if on_output:
        norm = merged.flatten(1).norm(dim=1)
        shape = [-1] + [1] * (merged.ndim - 1)
    else:
        norm = merged.transpose(0, 1).flatten(1).norm(dim=1)
        shape = [1, -1] + [1] * (merged.ndim - 2)
    ratio = magnitude.flatten() / (norm + torch.finfo(norm.dtype).eps)
    return merged * ratio.view(shape)
