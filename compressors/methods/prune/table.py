"""Magnitude pruning: the smallest elements go while it trains, the rest serves packed (Zhu and Gupta 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.bags import without_values
from embpress.compressors.base import Compressor
from embpress.compressors.cells import CellPart, Cells
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup, group_of
from embpress.compressors.init import uniform_
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.prune.cut import cut_of, largest, largest_of
from embpress.compressors.methods.prune.packed import Packed, index_bytes, most_kept, rows_of_block, values_of
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, finite, options_like, relative_error, sized

# at least so many times is a table pruned between the beginning and the end
_MIN_TIMES = 20


@dataclass(frozen=True)
class Schedule:
    """Zhu and Gupta's cubic schedule: which share of the elements is kept when (their equation 1).

    Attributes:
        start, end: steps at which pruning begins, and at which `keep` is reached.
        every: steps from one pruning to the next.
        keep: the share kept in the end.
    """

    start: int
    end: int
    every: int
    keep: float

    def due(self, step: int) -> bool:
        """Whether to prune at a step, from 0; what momentum has brought back goes again after the end."""
        return step >= self.start and ((step - self.start) % self.every == 0 or step == self.end)

    def kept(self, step: int) -> float:
        """`keep + (1 - keep) (1 - (t - start) / (end - start))³`."""
        left = min(1.0, max(0.0, (self.end - step) / max(1, self.end - self.start)))
        return self.keep + (1 - self.keep) * left**3


class _PruneGroup(TableGroup):
    """All rows in one parameter; in eval mode those that are looked up lose what is not among the largest."""

    tables: Sequence[Prune]

    def rows(self, ids: Tensor) -> Tensor:
        offsets = self.integers.on(ids.device, "row_offsets")
        return self._pruned(ids.long(), offsets, None)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        offsets = self.integers.on(ids.device, "row_offsets")[tables]
        return self._pruned(ids.long(), offsets, tables)

    def _pruned(self, ids: Tensor, offsets: Tensor, tables: Tensor | None) -> Tensor:
        table = self.first
        rows = F.embedding(ids + offsets, table.whole("dense"), sparse=table.sparse)
        if not table.training:
            cuts = [one.cut() for one in self.tables]
            bounds, last = (torch.stack([torch.as_tensor(cut[k], device=ids.device) for cut in cuts]) for k in (0, 1))
            if tables is not None:
                bounds, last = bounds[tables], last[tables]
            place = (ids * table.embedding_dim).unsqueeze(-1) + torch.arange(table.embedding_dim, device=ids.device)
            return rows.masked_fill(~largest(rows, place, bounds.to(rows.dtype).unsqueeze(-1), last.unsqueeze(-1)), 0)
        if any(one.pruning for one in self.tables):
            return rows.masked_fill(rows == 0, 0)  # what is pruned has no gradient
        return rows

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        return self._served().assemble(ids, tables, take)

    def take(self, tables: Tensor) -> Take:
        return self._served().take(tables)

    def _served(self) -> TableGroup:
        """The tables as they would be served now.

        Raises:
            InputError: in training mode, for which elements serve is not known yet.
        """
        if self.first.training:
            raise InputError("prune: which elements serve shows after training, so that it cannot go through codes")
        return group_of([table.fold() for table in self.tables], self.names)


@register("prune")
class Prune(Compressor):
    """A full table `dense (n, D)`, initialised as one, of which the share `keep` of largest magnitude serves.

    Where training says how long it is (`begin_training`, `maintain`), the smallest elements are set to zero step by
    step and learn no more, from `start` to `end`, by the cubic schedule; without it all of it is pruned by `fold()`.
    In eval mode a table answers at all times as it would be served now, so that what is measured on the way is what
    these bytes give. Elements are compared within a table, whatever the frequency of their rows.

    What is pruned is zero in `dense`: an optimizer with momentum moves it for a while, until the next pruning.

    Args:
        keep: share of the elements that is kept, above 0; `keep · n D` of them, rounded.
        start, end: shares of the training steps, `0 <= start < end <= 1`: pruning begins, and `keep` is reached.
        every: steps from one pruning to the next; fewer where there would be less than 20 prunings.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, for_budget=True, from_dense=True, maintain=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("keep",)
    training_knobs: ClassVar[tuple[str, ...]] = ("start", "end", "every")
    stacked: ClassVar[tuple[str, ...]] = ("dense",)
    row_parameters: ClassVar[tuple[str, ...]] = ("dense",)
    remembers: ClassVar[tuple[str, ...]] = ("pruning", "_steps")
    group = _PruneGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        keep: float = 0.1,
        start: float = 0.1,
        end: float = 0.7,
        every: int = 100,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        rows_of_block(self.embedding_dim)
        if not 0 < keep <= 1:
            raise InputError(f"prune: keep={keep} must be a share of the elements, above 0 and at most 1")
        if not 0 <= start < end <= 1:
            raise InputError(f"prune: start={start} and end={end} must be shares of the training, one after the other")
        if every < 1:
            raise InputError(f"prune: every={every} must be at least one training step")
        self.keep, self.start, self.end, self.every = keep, start, end, every
        self.schedule: Schedule | None = None
        self.pruning = False  # whether zeros are what has been pruned
        self._steps = 0
        self._cut: tuple[tuple[int, int], tuple[float, int]] | None = None
        self.dense = nn.Parameter(
            torch.empty(
                self.num_embeddings, self.embedding_dim, device=options.get("device"), dtype=options.get("dtype")
            )
        )
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`, as a full table."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.own("dense"), -bound, bound, generator)

    @property
    def kept(self) -> int:
        """How many elements serve."""
        return _kept(self.num_embeddings * self.embedding_dim, self.keep)

    # --- what is cut off ----------------------------------------------------------------------------------------------

    def cut(self) -> tuple[float | Tensor, int | Tensor]:
        """What is served of the table as it is now: see `cut_of`. Numbers that are kept, tensors in a trace."""
        whole, dense = self.whole("dense"), self.own("dense")
        if without_values(dense) or torch._C._functorch.is_functorch_wrapped_tensor(dense):
            return cut_of(dense, self.kept, traced=True)
        state = id(whole), -1 if whole.is_inference() else whole._version
        if self._cut is None or self._cut[0] != state or whole.is_inference():
            bound, last = cut_of(dense, self.kept)
            self._cut = state, (float(bound), int(last))
        return self._cut[1]

    def train(self, mode: bool = True) -> Self:
        """See `nn.Module.train`."""
        self._cut = None  # values may have changed behind torch's back
        return super().train(mode)

    # --- training -----------------------------------------------------------------------------------------------------

    def begin_training(self, steps: int, epochs: int) -> None:
        """Pruning goes from `start` to `end` of so many steps."""
        start, end = round(self.start * steps), max(1, round(self.end * steps))
        every = max(1, min(self.every, (end - start) // _MIN_TIMES))
        self.schedule, self._steps = Schedule(start, end, every, self.keep), 0

    def maintain(self, step: int | None = None) -> dict[str, Tensor]:
        """Prunes where it is time to; no row holds something else."""
        if self.schedule is None or not self.whole("dense").requires_grad:
            return {}
        step = self._steps if step is None else step
        self._steps = step + 1
        if self.schedule.due(step):
            self.prune(_kept(self.num_embeddings * self.embedding_dim, self.schedule.kept(step)))
        return {}

    @torch.no_grad()
    def prune(self, kept: int) -> None:
        """Sets all but the `kept` largest elements to zero, and what would bring them back in this step.

        Raises:
            InputError: the table is sharded, so that no rank knows which elements are the largest.
        """
        whole, dense = self.whole("dense"), self.own("dense")
        if type(whole).__name__ == "DTensor":
            raise InputError("prune: a sharded table cannot be pruned while it trains: leave begin_training out")
        dense.masked_fill_(~largest_of(dense, kept), 0)
        self.pruning = True
        grad = whole.grad
        if grad is None:
            return
        first, rows = self.row_offset_in("dense"), self.num_embeddings
        if not grad.is_sparse:
            grad[first : first + rows].masked_fill_(dense == 0, 0)
            return
        index = grad._indices()[0]
        own = (index >= first) & (index < first + rows)
        grad._values().masked_fill_(own.unsqueeze(1) & (whole[index] == 0), 0)

    def _activation_bytes(self, batch_size: int) -> int:
        return super()._activation_bytes(batch_size) + self.pruning * batch_size * self.embedding_dim

    # --- serving ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fold(self) -> Packed:
        """The elements that stay, packed, with where they are."""
        dense = self.own("dense").detach()
        made = Packed(
            self.num_embeddings,
            self.embedding_dim,
            kept=self.kept,
            mode=self.mode,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
            device=dense.device,
            dtype=dense.dtype,
        )
        made.pack(dense, largest_of(dense, self.kept))
        return made.eval()

    def arrays(self) -> tuple[Array, ...]:
        """The values that stay."""
        return (values_of(self.kept),)

    def cells(self, ids: Tensor) -> Cells:
        """Elements of its own for each id; the rows of which nothing stays are one and the same, of zeros."""
        with torch.no_grad():
            empty = ~self.lookup(ids).bool().any(1)
        rows = self.num_embeddings  # the one after the last stands for zeros
        return Cells.of([CellPart("dense", rows + 1)], ids.masked_fill(empty, rows).unsqueeze(1))

    def _serving(self) -> list[Entry]:
        index = index_bytes(self.num_embeddings, self.embedding_dim, self.kept)
        values = Entry("values", self.kept * self.itemsize, itemsize=self.itemsize)
        return [values, *(Entry(name, size) for name, size in index.items())]

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int, **schedule: Any) -> dict[str, float]:
        """The largest share whose values and index fit into `size` bytes; when it is reached makes no difference."""
        kept = most_kept(n, dim, size)
        if kept < 1:
            smallest = 4 + sum(index_bytes(n, dim, 1).values())
            raise BudgetError(f"prune cannot hold an element of {n} rows of width {dim} in {size} bytes", smallest)
        return {"keep": kept / (n * dim)}

    @classmethod
    @torch.no_grad()
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A trained table without its smallest elements, and the relative error; trained on, these stay zero.

        Args:
            weight: `(n, D)`, see `DenseRows`; the table that is made is as large until it is folded.
            **knobs: the constructor's, or `budget` or `ratio` instead of keep; device and dtype are the table's own by
                default.

        Returns:
            The table, trainable, and `‖lookups - weight‖ / ‖weight‖`, measured.
        """
        table = DenseRows(weight)
        made = cls(*table.shape, **options_like(table, cls, sized(table, cls, knobs)))
        for part, rows in table.chunks():
            made.dense[part] = rows.to(made.dense)
        made.prune(made.kept)
        return made, finite(relative_error(made, table))


def _kept(numel: int, keep: float) -> int:
    return max(1, round(keep * numel))
