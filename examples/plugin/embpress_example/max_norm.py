"""`+max-norm:at=X`: rows longer than X come out shortened to that length, as `nn.Embedding(max_norm=X)` means it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from embpress.compressors import Compressor, InputError, Ledger, Modifier
from embpress.compressors.group import TableGroup, group_of
from embpress.compressors.modifiers.base import ModifierGroup


def shortened(rows: Tensor, at: float) -> Tensor:
    """Rows `(*, D)`, those longer than `at` scaled to that length; differentiable."""
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows * (at / lengths.clamp(min=at))


class _MaxNormGroup(ModifierGroup):
    """The group of the tables inside gives rows; they are shortened before they are pooled, and so pooled here."""

    forward = TableGroup.forward
    answer = TableGroup.answer

    def rows(self, ids: Tensor) -> Tensor:
        return shortened(self.inner.rows(ids), self.first.at)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        return shortened(self.inner.lookups(ids, tables), self.first.at)

    def fold(self) -> TableGroup:
        inner = self.inner.fold()  # a group, or tables where they come apart
        inner = inner if isinstance(inner, TableGroup) else group_of(inner, self.names)
        return _MaxNormGroup([MaxNorm(table, at=self.first.at) for table in inner.tables], self.names, inner).eval()


class MaxNorm(Modifier):
    """A table whose rows are at most `at` long, in training and when served; no bytes are added.

    Unlike torch's `max_norm`, which rewrites the rows that a forward looks up, nothing is changed in place: gradients
    pass the shortening, and tables whose rows share memory can be bounded too.

    Args:
        table: what it wraps.
        at: the largest length of a row, Euclidean.
    """

    group = _MaxNormGroup
    forward = Compressor.forward
    lookup = Compressor.lookup

    def __init__(self, table: Compressor, *, at: float = 1.0) -> None:
        super().__init__(table)
        if not 0 < at < float("inf"):
            raise InputError(f"max-norm: at={at} is no length")
        self.at = at

    def own_knobs(self) -> dict[str, Any]:
        """As written in a spec."""
        return {"at": self.at}

    def _lookup(self, ids: Tensor) -> Tensor:
        return shortened(self.table._lookup(ids), self.at)

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """That of the table inside; a backward also needs the shortened rows and, for each, its length and factor."""
        made = self.table.ledger(optimizer, batch_size)
        kept = (batch_size or 0) * (self.embedding_dim + 4) * self.itemsize
        training = [replace(e, bytes=e.bytes + kept) if e.name == "activations" else e for e in made.training]
        return Ledger(made.serving, training)

    def fold(self) -> Compressor:
        """The table inside, folded, its rows still shortened."""
        return MaxNorm(self.table.fold(), at=self.at).eval()
