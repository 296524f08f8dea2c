"""`TableGroup`: the tables of one method in a model, looked up together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import Self

from embpress.compressors.base import Compressor


class TableGroup(nn.Module):
    """Tables of one method and one width.

    Parameters named in the method's `merged` are stacked into one `(Σ rows, width)` parameter that the group owns and
    to which its tables refer, so that one gather serves all tables. A method with an op for many tables, or an index
    computation that broadcasts over tables, overrides `lookup` in a subclass named by its `group` attribute.

    Attributes:
        tables: an `nn.ModuleList`, typed by what it holds; a subclass annotates it with the class of its method.
    """

    tables: Sequence[Compressor]

    def __init__(self, tables: Iterable[Compressor]) -> None:
        super().__init__()
        made: list[Compressor] = list(tables)
        self.tables = cast("Sequence[Compressor]", nn.ModuleList(made))
        self.merged = made[0].merged if len(made) > 1 else ()
        for name in self.merged:
            self._merge(name, made)

    def _merge(self, name: str, tables: list[Compressor]) -> None:
        """Stacks a parameter's rows; each table's own memory is freed as soon as it is copied."""
        parts: list[nn.Parameter] = [getattr(table, name) for table in tables]
        rows = [part.shape[0] for part in parts]
        stacked = nn.Parameter(parts[0].new_empty(sum(rows), *parts[0].shape[1:]), parts[0].requires_grad)
        first = 0
        for table, part, count in zip(tables, parts, rows):
            with torch.no_grad():
                stacked[first : first + count] = part
            table.adopt(name, stacked, first)
            first += count
        self.register_parameter(name, stacked)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """What `to` and its kin go through: buffers become other tensors, to which the tables then refer."""
        super()._apply(fn, recurse)
        for table in self.tables:
            for name in table._adopted:
                object.__setattr__(table, name, getattr(self, name))
        return self

    def lookup(self, ids: Tensor) -> Tensor:
        """Checked ids, one a table: `(B, T)` int32 or int64 → `(B, T, D)`."""
        return torch.stack([table._lookup(ids[:, t].long()) for t, table in enumerate(self.tables)], dim=1)

    def pooled(self, inputs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """One pair of ids `(N,)` and offsets `(B,)` a table → `(B, T, D)`."""
        return torch.stack([table(*value) for table, value in zip(self.tables, inputs)], dim=1)

    def register_constant(self, name: str, values: list[int]) -> None:
        """Keeps one integer a table, which follows from the tables' shapes: a buffer `(T,)` that is not saved."""
        constant = torch.tensor(values, dtype=torch.int64, device=self.tables[0].device)
        self.register_buffer(name, constant, persistent=False)
