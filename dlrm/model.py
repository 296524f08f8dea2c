"""DLRM: bottom MLP, embedding tables, pairwise dot interaction, top MLP (Naumov et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import TableCollection
from embpress.compressors.collection import BagInput


def mlp(sizes: Sequence[int], generator: Generator | None, last_linear: bool) -> nn.Sequential:
    """Linear layers with ReLU between, initialised as DLRM's: weights N(0, 2 / (in + out)), biases N(0, 1 / out).

    Args:
        sizes: input width, hidden widths, output width.
        generator: source of the initial values.
        last_linear: no ReLU after the last layer.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            linear.weight.normal_(0, math.sqrt(2 / (fan_in + fan_out)), generator=generator)
            linear.bias.normal_(0, math.sqrt(1 / fan_out), generator=generator)
        layers.append(linear)
        if i < len(sizes) - 2 or not last_linear:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class DLRM(nn.Module):
    """Click probability from dense features and one embedding a categorical feature.

    Args:
        num_dense: dense features, at least one.
        tables: the embedding tables; their width is the bottom MLP's output.
        bottom: hidden widths of the bottom MLP.
        top: hidden widths of the top MLP.
        generator: source of the MLPs' initial values.
    """

    _pairs: Tensor

    def __init__(
        self,
        num_dense: int,
        tables: TableCollection,
        bottom: Sequence[int],
        top: Sequence[int],
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        width, vectors = tables.embedding_dim, len(tables.specs) + 1
        self.bottom = mlp([num_dense, *bottom, width], generator, last_linear=False)
        self.tables = tables
        self.top = mlp([width + vectors * (vectors - 1) // 2, *top, 1], generator, last_linear=True)
        row, column = torch.tril_indices(vectors, vectors, -1)
        self.register_buffer("_pairs", row * vectors + column, persistent=False)

    def forward(self, dense: Tensor, ids: Tensor | Sequence[BagInput]) -> Tensor:
        """Logits `(B,)` of dense features `(B, num_dense)` and ids as in `TableCollection.forward`."""
        return self.score(dense, self.tables(ids))

    def score(self, dense: Tensor, rows: Tensor) -> Tensor:
        """Logits `(B,)` from looked-up rows `(B, F, D)`."""
        bottom = self.bottom(dense)
        vectors = torch.cat([bottom.unsqueeze(1), rows], dim=1)
        # every pair once: the part of the Gram matrix below its diagonal
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self._pairs)
        return self.top(torch.cat([bottom, products], dim=1)).squeeze(1)
