"""Products of two factors that are nearest to rows of a trained table, by their SVD (Eckart and Young 1936)."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.compressors.trained_table import DenseRows, finite

# numbers of a block of a trained table
_BLOCK = 1 << 22


def right_singular(table: DenseRows, device: torch.device | str, rows: range | None = None) -> tuple[Tensor, Tensor]:
    """Squared singular values `(D,)`, falling, and right singular vectors `(D, D)` as columns, float64.

    By the eigenvectors of the Gram matrix, which has half of float64's digits: singular values below 1e-8 of the
    largest are not told from zero.

    Args:
        table: `(n, D)`, read once in blocks; it may be larger than memory.
        device: where it is computed.
        rows: which of its rows; default all.

    Raises:
        InputError: entries that are not finite.
    """
    dim = table.shape[1]
    gram = torch.zeros(dim, dim, dtype=torch.float64, device=device)
    for _, part in table.chunks(_BLOCK, rows):
        block = part.to(device, torch.float64)
        gram += block.t() @ block
    finite(float(gram.sum()))
    energies, vectors = torch.linalg.eigh(gram)
    return energies.flip(0).clamp(min=0), vectors.flip(1)


@torch.no_grad()
def fill_nearest(
    inner: Tensor, projection: Tensor, table: DenseRows, singular: tuple[Tensor, Tensor], rows: range | None = None
) -> None:
    """Sets the factors `(rows, k)` and `(k, D)` of the product that is nearest to the rows.

    Both get one root mean square, as fresh ones have nearly: neither outruns the other in training.

    Args:
        singular: what `right_singular` has found for these rows.
        rows: see there.
    """
    (count, k), dim = inner.shape, table.shape[1]
    energies, vectors = singular[0], singular[1][:, :k]
    even = (float(energies[:k].sum()) / (count * k) * dim) ** 0.25 or 1.0
    first = rows.start if rows else 0
    for part, block in table.chunks(_BLOCK, rows):
        inside = slice(part.start - first, part.stop - first)
        inner[inside] = (block.to(inner.device, torch.float64) @ vectors / even).to(inner.dtype)
    projection.copy_(vectors.t() * even)
