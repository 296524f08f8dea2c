"""DLRM: bottom MLP, embedding tables, pairwise dot interaction, top MLP (Naumov et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import TableCollection
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.models.mlp import mlp
from embpress.dlrm.option import Option


def pair_indices(count: int) -> tuple[Tensor, Tensor]:
    """Where the pairs of `count` vectors stand in their Gram matrix.

    Returns:
        The flat positions `(P,)` of the entries below the diagonal, and for every entry `(count * count,)` the number
        of its pair, P on the diagonal.
    """
    row, column = torch.tril_indices(count, count, -1)
    of_entry = torch.full((count, count), len(row))
    of_entry[row, column] = of_entry[column, row] = torch.arange(len(row))
    return row * count + column, of_entry.flatten()


class PairwiseDots(torch.autograd.Function):
    """Dot product of every pair of vectors: `(B, V, D)` → `(B, V (V - 1) / 2)`.

    The Gram matrix is symmetric, so its gradient is too, and one product gives the vectors' gradient; autograd would
    take two, with a scatter and an addition.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, below: Tensor, of_entry: Tensor) -> Tensor:
        """Products in the order of `below`."""
        ctx.save_for_backward(vectors, of_entry)
        return torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, below)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """`dV = (dG + dGᵀ) V`, with zeros on the diagonal."""
        vectors, of_entry = ctx.saved_tensors
        padded = nn.functional.pad(grad, (0, 1))  # the last column is the diagonal's zero
        gram = padded.index_select(1, of_entry).view(vectors.shape[0], vectors.shape[1], vectors.shape[1])
        return torch.bmm(gram, vectors), None, None


class DLRM(ClickModel):
    """Bottom MLP over the dense features, dot products of its output and all rows with each other, top MLP.

    Args:
        num_dense: dense features, at least one.
        tables: the embedding tables; their width is the bottom MLP's output.
        bottom: hidden widths of the bottom MLP.
        top: hidden widths of the top MLP.
        generator: source of the MLPs' initial values.
        amp: MLPs and interaction compute in bfloat16.
    """

    name = "dlrm"
    options = (
        Option("bottom", tuple, "hidden widths of the MLP before the interaction.", default=(64,)),
        Option("top", tuple, "hidden widths of the MLP after it.", default=(128, 64)),
    )

    def __init__(
        self,
        num_dense: int,
        tables: TableCollection,
        bottom: Sequence[int],
        top: Sequence[int],
        generator: Generator | None = None,
        amp: bool = False,
    ) -> None:
        super().__init__(num_dense, tables, amp)
        width, vectors = tables.embedding_dim, len(tables.configs) + 1
        self.bottom = mlp([num_dense, *bottom, width], generator, last_linear=False)
        self.top = mlp([width + vectors * (vectors - 1) // 2, *top, 1], generator, last_linear=True)
        for part in (self.bottom, self.top):  # the tables are there already
            part.to(self.device)
        for name, positions in zip(("_below", "_of_entry"), pair_indices(vectors)):
            self.register_buffer(name, positions.to(self.device), persistent=False)

    def _score(self, dense: Tensor, rows: Tensor) -> Tensor:
        bottom = self.bottom(dense)
        # autocast would let the wider dtype win, and the interaction stay in float32
        vectors = torch.cat([bottom.unsqueeze(1), rows.to(bottom.dtype)], dim=1)
        products = PairwiseDots.apply(vectors, self._below, self._of_entry)
        return self.top(torch.cat([bottom, products], dim=1)).squeeze(1)

    def sample_bytes(self) -> int:
        """Rows, the vectors that interact, their Gram matrix and its half, twice: float32."""
        vectors = len(self.tables.configs) + 1
        return 4 * (2 * vectors * self.tables.embedding_dim + 2 * vectors * vectors)
