"""The best low-rank approximation of a matrix, or of a product of two thin matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.config.errors import AtelierError

EXACT_UP_TO = 384
"""Matrices with a side of at most this are decomposed exactly."""
PASSES = 4
"""Power iterations of the randomised decomposition. With 4, its error is far below that of dropping ranks."""


@dataclass(frozen=True)
class LowRank:
    """`up` [out, rank] · `down` [rank, in], and the share of the squared norm that it keeps (0 to 1)."""

    up: Tensor
    down: Tensor
    kept: float

    @property
    def rank(self) -> int:
        return self.up.shape[1]


def of_product(up: Tensor, down: Tensor, rank: int, energy: float | None = None) -> LowRank:
    """The best approximation of `up` [out, r] · `down` [r, in] with at most `rank` ranks.

    `energy` (0 to 1) uses fewer ranks when they keep that share of the squared norm. It is exact, since the singular
    values of the product are those of an r x r matrix. Raises `AtelierError` for NaN and infinite values.
    """
    up, down = up.double(), down.double()
    _check_numbers(up, down)
    left, left_core = torch.linalg.qr(up)
    right, right_core = torch.linalg.qr(down.t())
    u, values, vh = torch.linalg.svd(left_core @ right_core.t())
    return _cut(left @ u, values, vh @ right.t(), float(values.square().sum()), rank, energy)


def of_matrix(matrix: Tensor, rank: int, energy: float | None = None, seed: int = 0) -> LowRank:
    """The best approximation of `matrix` [out, in] with at most `rank` ranks. Large matrices use a random projection.

    Halko, Martinsson and Tropp 2011 (arXiv:0909.4061), algorithm 4.4. `seed` decides the projection. Raises
    `AtelierError` for NaN and infinite values.
    """
    matrix = matrix.float()
    _check_numbers(matrix)
    total = float(matrix.double().square().sum())
    if min(matrix.shape) <= EXACT_UP_TO:
        u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
        return _cut(u, values, vh, total, rank, energy)
    generator = torch.Generator().manual_seed(seed)
    width = min(2 * rank + 16, *matrix.shape)
    basis = torch.randn(matrix.shape[1], width, generator=generator).to(matrix.device)
    basis = torch.linalg.qr(matrix @ basis).Q
    for _ in range(PASSES):
        basis = torch.linalg.qr(matrix.t() @ basis).Q
        basis = torch.linalg.qr(matrix @ basis).Q
    u, values, vh = torch.linalg.svd(basis.t() @ matrix, full_matrices=False)
    return _cut(basis @ u, values, vh, total, rank, energy)


def _check_numbers(*tensors: Tensor) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise AtelierError("Some of its values are NaN or infinite, so it has no low-rank form.")


def _cut(u: Tensor, values: Tensor, vh: Tensor, total: float, rank: int, energy: float | None) -> LowRank:
    squares = values.double().square().cumsum(0)
    count = min(rank, len(values))
    if energy is not None and total > 0:
        enough = int((squares < energy * total).sum()) + 1
        count = max(1, min(count, enough))
    root = values[:count].sqrt()
    kept = float(squares[count - 1]) / total if total > 0 else 1.0
    return LowRank((u[:, :count] * root).float(), (vh[:count] * root[:, None]).float(), min(1.0, kept))
