"""Full tables on FBGEMM's table-batched embedding (TBE): one call for all tables, the optimizer in the backward."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError, nearest
from embpress.compressors.group import TableGroup
from embpress.compressors.init import uniform_
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.full import Full
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.tbe import OPTIMIZERS, TBE, available
from embpress.compressors.trained_table import copied


class TBEGroup(TableGroup):
    """All tables in one TBE, which takes over from the tables' own."""

    tables: Sequence[FullTBE]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.integers["row_offsets"] = [sum(table.kernel.rows[: table.position]) for table in self.tables]

    @torch.no_grad()
    def _take_over(self, tables: list[Compressor]) -> None:
        first = self.first
        rows = [table.num_embeddings for table in tables]
        how = first.optimizer, first.learning_rate
        self.kernel = TBE(first.spec_name, rows, first.embedding_dim, *how, first.device)
        self.kernel.requires_grad_(first.kernel.weights.requires_grad)
        for t, table in enumerate(self.tables):
            self.kernel.table(t).copy_(table.weight)
            self.kernel.state_of(t).copy_(table.kernel.state_of(table.position))
            del table._modules["kernel"]
            object.__setattr__(table, "kernel", self.kernel)
            table.__dict__.pop("_alone", None)
            table.position = t

    def forward(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """As in any group; weights in the dtype of the rows."""
        if weights is not None and weights.dtype != (own := self.first.kernel.weights.dtype):  # TBE would cast them
            raise TypeError(f"weights must be {own}, as {self.names[0]} is, got {weights.dtype}")
        return super().forward(ids, offsets, weights)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of ids `(B, T)`, from the TBE where an update is wanted, else by a gather."""
        kernel = self.first.kernel
        if not kernel.wants_update():
            return F.embedding(ids + self.integers.on(ids.device, "row_offsets"), kernel.weights.view(-1, kernel.width))
        offsets = torch.arange(ids.numel() + 1, device=ids.device)
        return self._updating(ids.t().reshape(-1), offsets, None)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Bags, from the TBE where an update is wanted, else by torch."""
        kernel, mode = self.first.kernel, self.first.mode
        if kernel.wants_update():
            return self._updating(ids, offsets, weights)
        ids = ids + self.integers.on(ids.device, "row_offsets")[self._tables_of(offsets, ids.shape[0])]
        rows = kernel.weights.view(-1, kernel.width)
        return self._by_bag(
            F.embedding_bag(ids, rows, offsets, mode=mode, per_sample_weights=weights, include_last_offset=True)
        )

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """The rows themselves."""
        return take("weight", ids)

    def _updating(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Bags `(B, T, D)` by the TBE; those of one of its tables alone among empty ones of the others."""
        table, kernel = self.first, self.first.kernel
        count, tables = (offsets.shape[0] - 1) // self.count, len(kernel.rows)
        others = tables != self.count
        if others:
            after = (tables - 1 - table.position) * count
            offsets = torch.cat([offsets.new_zeros(table.position * count), offsets, offsets[-1:].expand(after)])
        out = kernel(ids.long(), offsets, weights, table.mode == "mean").view(count, tables, kernel.width)
        return out[:, table.position : table.position + 1] if others else out


@register("full-tbe")
class FullTBE(Compressor):
    """A full table held by FBGEMM's TBE; its backward updates the table itself, there is no `.grad`.

    float32, width a multiple of 4. It folds to a plain full table. Where no update is wanted (no gradients, a frozen
    table, tensors without memory) it is read as a plain full table is. It trains in one process, uncompiled, and only
    parameters of its own: all else is refused by an `InputError` that says why. The learning rate can be set while it
    trains.

    Args:
        optimizer: `sgd`, `adagrad` or `rowwise_adagrad`.
        learning_rate: of that optimizer.
    """

    tags: ClassVar[Tags] = Tags(
        fused_update=True, uncompressed=True, from_dense=True, baseline=True, dtypes=(torch.float32,)
    )
    group = TBEGroup
    get_extra_state = nn.Module.get_extra_state  # it has nothing but rows
    set_extra_state = nn.Module.set_extra_state
    kernel: TBE

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        optimizer: str = "adagrad",
        learning_rate: float = 0.02,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        if optimizer not in OPTIMIZERS:
            raise InputError(f"{self.spec_name}: no optimizer {optimizer!r}{nearest(optimizer, OPTIMIZERS)}")
        if embedding_dim % 4:
            raise InputError(f"{self.spec_name}: FBGEMM needs a width that is a multiple of 4, got {embedding_dim}")
        self.position = 0  # among the tables of the kernel
        self.kernel = TBE(
            self.spec_name, [num_embeddings], embedding_dim, optimizer, learning_rate, options.get("device")
        )
        self.reset_parameters(options.get("generator"))

    @property
    def backend(self) -> str:
        """`fbgemm`."""
        return "fbgemm"

    @property
    def optimizer(self) -> str:
        """Of all tables that are in one TBE."""
        return self.kernel.optimizer

    @property
    def learning_rate(self) -> float:
        """Of all tables that are in one TBE; it can be set while they train."""
        return self.kernel.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.kernel.learning_rate = rate

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """That of the TBE, which holds the rows of all tables that are in it."""
        return dict(self.kernel.named_parameters())

    def group_key(self) -> tuple[Any, ...]:
        """One TBE has one optimizer."""
        return *super().group_key(), self.optimizer, self.learning_rate

    @property
    def weight(self) -> Tensor:
        """The table, a view `(n, D)` to read: no gradient goes through it."""
        return self.kernel.table(self.position)

    @property
    def device(self) -> torch.device:
        """Device of the table."""
        return self.kernel.weights.device

    @property
    def itemsize(self) -> int:
        """4: the table is float32."""
        return 4

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`, the padding row zero; the optimizer starts anew."""
        self.kernel.state_of(self.position).zero_()
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.weight, -bound, bound, generator)
        if self.padding_idx is not None:
            self.weight[self.padding_idx] = 0

    @classmethod
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A copy in float32 of a trained table `(n, D)`, see `DenseRows`, and its relative error."""
        return copied(cls, weight, knobs)

    def arrays(self) -> tuple[Array, ...]:
        """Its rows."""
        return (Array("weight", self.num_embeddings, self.embedding_dim, table=True),)

    def fold(self) -> Full:
        """The same rows as a plain full table."""
        return Full.serving(self, self.weight)

    def _activation_bytes(self, batch_size: int) -> int:
        # TBE keeps ids, offsets and a few counters of its own besides the rows
        return batch_size * (16 + 4 * self.embedding_dim) + 64

    def _serving(self) -> list[Entry]:
        return [Entry("weight", 4 * self.num_embeddings * self.embedding_dim, itemsize=4)]

    def _weights(self) -> list[Entry]:
        size = self.num_embeddings * self.embedding_dim
        entries = [Entry("weight", 4 * size)]
        if (state := self.kernel.state) is not None:
            own = self.kernel.state_of(self.position)
            entries.append(Entry(f"{self.optimizer} state of weight", own.numel() * state.element_size()))
        return [*entries, Entry("TBE bookkeeping", self.kernel.bookkeeping_bytes(), owner=id(self.kernel))]

    @classmethod
    def unavailable(cls, device: torch.device | str = "cpu") -> str | None:
        """Why FBGEMM cannot be used on a device, or None where it can."""
        return available(device)

    @classmethod
    def serving_size(cls, num_embeddings: int, embedding_dim: int, **knobs: Any) -> int:
        """`4 n D` bytes."""
        return 4 * num_embeddings * embedding_dim
