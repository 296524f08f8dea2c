"""DLRM: bottom MLP, embedding tables, pairwise dot interaction, top MLP (Naumov et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import TableCollection
from embpress.compressors.tables.collection import BagInput


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


def pair_indices(count: int) -> tuple[Tensor, Tensor]:
    """Where the pairs of `count` vectors stand in their Gram matrix.

    Returns:
        The flat places `(P,)` of the entries below the diagonal, and for every entry `(count * count,)` the number of
        its pair, P on the diagonal.
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


class DLRM(nn.Module):
    """Click probability from dense features and one embedding a categorical feature.

    Args:
        num_dense: dense features, at least one.
        tables: the embedding tables; their width is the bottom MLP's output.
        bottom: hidden widths of the bottom MLP.
        top: hidden widths of the top MLP.
        generator: source of the MLPs' initial values; on the CPU, so that a seed means the same on every device.
        amp: MLPs and interaction compute in bfloat16, by autocast; parameters, tables and logits stay float32.
    """

    def __init__(
        self,
        num_dense: int,
        tables: TableCollection,
        bottom: Sequence[int],
        top: Sequence[int],
        generator: Generator | None = None,
        amp: bool = False,
    ) -> None:
        super().__init__()
        self.amp = amp
        width, vectors = tables.embedding_dim, len(tables.configs) + 1
        self.bottom = mlp([num_dense, *bottom, width], generator, last_linear=False)
        self.tables = tables
        self.top = mlp([width + vectors * (vectors - 1) // 2, *top, 1], generator, last_linear=True)
        device = tables.tables[0].device
        for part in (self.bottom, self.top):  # the tables are there already
            part.to(device)
        for name, places in zip(("_below", "_of_entry"), pair_indices(vectors)):
            self.register_buffer(name, places.to(device), persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the MLPs, which is the tables'."""
        return next(self.top.parameters()).device

    def forward(self, dense: Tensor, ids: Tensor | Sequence[BagInput]) -> Tensor:
        """Logits `(B,)` of dense features `(B, num_dense)` and ids as in `TableCollection.forward`."""
        return self.score(dense, self.tables(ids))

    def score(self, dense: Tensor, rows: Tensor) -> Tensor:
        """Logits `(B,)` from looked-up rows `(B, F, D)`."""
        if not self.amp:
            return self._score(dense, rows)
        with torch.autocast(dense.device.type, torch.bfloat16):
            return self._score(dense, rows).float()

    def _score(self, dense: Tensor, rows: Tensor) -> Tensor:
        bottom = self.bottom(dense)
        # autocast would let the wider dtype win, and the interaction stay in float32
        vectors = torch.cat([bottom.unsqueeze(1), rows.to(bottom.dtype)], dim=1)
        products = PairwiseDots.apply(vectors, self._below, self._of_entry)
        return self.top(torch.cat([bottom, products], dim=1)).squeeze(1)
