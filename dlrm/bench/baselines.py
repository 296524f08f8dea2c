"""What TT-Rec's op is held against: other ways to the same rows, and the full table."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.init import uniform_
from embpress.compressors.methods.tt.table import TTRec
from embpress.dlrm.bench.roofline import product_flops
from embpress.kernels.reference import pool, tt_digits


class NotMeasured(Exception):
    """This build, or this machine, lacks what a case needs; the message says what."""


class BmmTable(nn.Module):
    """A tensor train as one writes it with torch alone: slices gathered by digit, `torch.bmm`, autograd backward.

    Nothing is deduplicated. The parameters are copies of a table's cores.
    """

    def __init__(self, table: TTRec) -> None:
        super().__init__()
        self.cores = nn.ParameterList(core.detach().clone() for core in table.cores)

    def forward(self, ids: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Rows `(N, D)` of ids `(N,)`, or their sums `(B, D)` over bags that start at `offsets (B,)`."""
        digits = tt_digits(ids, [core.shape[0] for core in self.cores])
        rows = self.cores[0].index_select(0, digits[0]).flatten(1, 2)  # (N, q_0, R_1)
        for core, digit in zip(list(self.cores)[1:], digits[1:]):
            slices = core.index_select(0, digit).flatten(2)  # (N, R_k, q_k R_{k+1})
            rows = torch.bmm(rows, slices).view(len(ids), -1, core.shape[3])
        rows = rows.flatten(1)
        if offsets is None:
            return rows
        return pool(rows, torch.cat([offsets, offsets.new_tensor([len(ids)])]), None, False)


class TensorlyTable(nn.Module):
    """The same tensor train in tensorly-torch: `FactorizedEmbedding` with a block TT of the same shapes and values.

    Raises:
        NotMeasured: tensorly-torch is not installed.
    """

    def __init__(self, table: TTRec) -> None:
        super().__init__()
        try:
            from tltorch import FactorizedEmbedding
        except ImportError:
            raise NotMeasured("tensorly-torch is not installed") from None
        self.embedding = FactorizedEmbedding(
            math.prod(table.row_factors),
            table.embedding_dim,
            auto_tensorize=False,
            tensorized_num_embeddings=table.row_factors,
            tensorized_embedding_dim=table.column_factors,
            factorization="blocktt",
            rank=tuple(table.ranks),
            dtype=table.cores[0].dtype,
        ).to(table.device)
        with torch.no_grad():
            for copy, core in zip(self.cores, table.cores):
                copy.copy_(core.transpose(0, 1))

    @property
    def cores(self) -> list[nn.Parameter]:
        """Its parameters, `(R_{k-1}, p_k, q_k, R_k)`."""
        return list(self.embedding.weight.factors)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows `(N, D)` of ids `(N,)`."""
        rows: Tensor = self.embedding(ids)
        return rows


def full_table(
    num_embeddings: int,
    embedding_dim: int,
    generator: Generator | None = None,
    device: torch.device | str = "cpu",
) -> nn.EmbeddingBag:
    """The whole table as `nn.EmbeddingBag` with sums and sparse gradients, allocated once."""
    weight = torch.empty(num_embeddings, embedding_dim, device=device)
    uniform_(weight, -1, 1, generator)
    weight.mul_(num_embeddings**-0.5)
    return nn.EmbeddingBag(num_embeddings, embedding_dim, mode="sum", sparse=True, _weight=weight)


def forward_flops(table: TTRec) -> int:
    """Floating point operations of one lookup."""
    return sum(product_flops(table.column_factors, table.ranks))
