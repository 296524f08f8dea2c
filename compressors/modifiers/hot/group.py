"""The hot rows of all tables in one parameter: a lookup reads one of them, or asks the group inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embpress.compressors.arrays import Take
from embpress.compressors.bags import without_values
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import Arrays, NoRecipe, Stores, recipe_of
from embpress.compressors.group import TableGroup
from embpress.compressors.integers import Constants
from embpress.compressors.modifiers.base import ModifierGroup
from embpress.compressors.modifiers.hot.moves import Moves, without_rows
from embpress.compressors.row_cache import in_training_step
from embpress.kernels.recipes import HotRows, Made, Store

if TYPE_CHECKING:
    from embpress.compressors.modifiers.hot.modifier import Hot


class HotGroup(ModifierGroup):
    """Each bag is that of its hot ids, plus that of all others by the group inside, which never sees a hot one.

    Hot rows of all tables are stacked, and so are the ids that they belong to, ascending over all tables: one search
    finds them. Where nothing can depend on the ids' values, all ids go both ways and one of the rows is taken.
    """

    tables: Sequence[Hot]
    forward = TableGroup.forward

    def __init__(
        self,
        tables: Iterable[Compressor],
        names: Sequence[str] = (),
        inner: TableGroup | None = None,
        *,
        alone: bool = False,
    ) -> None:
        super().__init__(tables, names, inner, alone=alone)
        self.checks_ids = False  # type: ignore[misc]
        if not alone:
            for name in ("hot", "starts", "bases"):
                self.integers[name] = [table.integers.values(name)[0] for table in self.tables]

    def __setattr__(self, name: str, value: Any) -> None:
        if "tables" in self._modules or "_first" in self.__dict__:
            self.first.check_not_sharded(name, value)
        super().__setattr__(name, value)

    def _take_over(self, tables: list[Any]) -> None:
        if len(tables) == 1:
            return
        indexes: dict[str, list[Tensor]] = {name: [] for name in tables[0].constants}
        start = base = 0
        for table in tables:
            for name, parts in indexes.items():
                parts.append(table.constants[name] + (base if name == "hot_ids" else 0))
            table.integers["starts"], table.integers["bases"] = [start], [base]
            start, base = start + table.rows, base + table.num_embeddings + 1
        self._stack("hot_rows", tables)
        for name, parts in indexes.items():
            self.constants.put(name, torch.cat(parts))
        for table in tables:
            table.constants = Constants()  # they are asked for here from now on

    def _give_parts(self, tables: list[Compressor]) -> None:
        """They have none of their own."""

    # --- where a row is -----------------------------------------------------------------------------------------------

    def _index(self, device: torch.device, name: str) -> Tensor:
        index: Tensor = self.first.index(device, name) if self.count == 1 else self.constants.on(device, name)
        return index

    def _of_tables(self, name: str, tables: Tensor | None, device: torch.device) -> Tensor:
        numbers = self.integers.on(device, name)
        return numbers if tables is None or self.count == 1 else numbers[tables]

    def slots(self, ids: Tensor, tables: Tensor | None = None) -> Tensor:
        """Which of its table's hot rows each id has, int64, -1 for none.

        Args:
            ids: `(B, T)`, or `(N,)` of the tables `(N,)`.
            tables: int64.
        """
        ids = ids.long()
        if not self.first.indexed:
            return ids.masked_fill(ids >= self._of_tables("hot", tables, ids.device), -1)
        known = self._index(ids.device, "hot_ids")
        wanted = (ids + self._of_tables("bases", tables, ids.device)).contiguous()
        place = torch.searchsorted(known, wanted).clamp(max=known.shape[0] - 1)
        there = known[place] == wanted
        if self.first.learns:
            place = self._index(ids.device, "hot_slots")[place]
        elif self.count > 1:
            place = place - self._of_tables("starts", tables, ids.device)
        return place.masked_fill(~there, -1)

    def _rows_in_stack(self, slots: Tensor, tables: Tensor | None) -> Tensor:
        if self.count == 1:
            return slots + self.first.row_offset_in("hot_rows")
        return slots + self._of_tables("row_offsets", tables, slots.device)

    def _values(self, weighted: bool = False) -> Tensor:
        """The hot rows. Those that have moved before the backward get no gradient of what was looked up before.

        `weighted`: the backward reads the values, for the weights' gradient, so they are copied.
        """
        whole: Tensor = self.first.whole("hot_rows")
        if not (self.first.learns and whole.requires_grad and torch.is_grad_enabled()):
            return whole
        values: Tensor = whole.clone() if weighted else torch.ops.aten.alias.default(whole)
        states: list[Moves] = [table.moves for table in self.tables]
        offsets = [table.row_offset_in("hot_rows") for table in self.tables]

        def of_held(grad: Tensor) -> Tensor:
            for state, offset in zip(states, offsets):
                moved = state.since()
                grad = grad if moved is None else without_rows(grad, moved.to(grad.device) + offset)
            return grad

        values.register_hook(of_held)
        return values

    # --- lookups ------------------------------------------------------------------------------------------------------

    def answer(self, ids: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `TableGroup.answer`; where hot rows are chosen in training, it learns which."""
        if _shapes_alone(ids) and not self._in_training_step(ids):
            return TableGroup.answer(self, ids, weights)
        return self._checked_bags(*_one_a_bag(ids), None if weights is None else weights.t().reshape(-1))

    def _checked_bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        step = _training_step if self._in_training_step(ids) else TableGroup._checked_bags
        return step(self, ids, offsets, weights)

    def _in_training_step(self, ids: Tensor) -> bool:
        return self.first.learns and in_training_step(self.first, self.parameters_of_first(), ids)

    def parameters_of_first(self) -> Iterable[Tensor]:
        """What one of the tables learns in."""
        return self.first.parameters_by_name().values()

    def rows(self, ids: Tensor) -> Tensor:
        """See `TableGroup.rows`."""
        if _shapes_alone(ids):
            return self._either(self.slots(ids), None, self.inner.rows(ids))
        return self._parted(*_one_a_bag(ids), None, self.inner.bags)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Made, HotRows]:
        """Hot rows beside what the group inside says."""
        table = self.tables[t]
        made, hot = recipe_of(self.inner, t, stores, arrays)
        if hot is not None or table.learns:
            raise NoRecipe
        store, first = stores("hot_rows", t)
        if not table.indexed:
            return made, HotRows(store, table.rows, first)
        ids = arrays.constant(self._index(table.device, "hot_ids"))
        begin, base = (table.integers.values(name)[0] for name in ("starts", "bases"))
        return made, HotRows(store, table.rows, first, ids, begin, base)

    def store(self, name: str, t: int, arrays: Arrays) -> tuple[Store, int]:
        """The hot rows, and what the group inside keeps."""
        return super().store(name, t, arrays) if name == "hot_rows" else self.inner.store(name, t, arrays)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """See `TableGroup.lookups`."""
        slots = self.slots(ids, tables)
        if _shapes_alone(ids):
            return self._either(slots, tables, self.inner.lookups(ids, tables))
        cold, hot = (slots < 0).nonzero().flatten(), (slots >= 0).nonzero().flatten()
        rows = self.inner.lookups(ids[cold], tables[cold])
        exact = F.embedding(self._rows_in_stack(slots[hot], tables[hot]), self._values(), sparse=self.first.sparse)
        out = rows.new_empty(len(ids), rows.shape[1])
        return out.index_copy(0, cold, rows).index_copy(0, hot, exact)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """See `TableGroup.bags`."""
        if _shapes_alone(ids):
            return TableGroup.bags(self, ids, offsets, weights)
        return self._parted(ids, offsets, weights, self.inner.forward)

    def _either(self, slots: Tensor, tables: Tensor | None, rows: Tensor) -> Tensor:
        """Hot rows, and those of the group inside where there is no slot."""
        exact = F.embedding(self._rows_in_stack(slots.clamp(min=0), tables), self._values(), sparse=self.first.sparse)
        return torch.where((slots >= 0).unsqueeze(-1), exact, rows)

    def _parted(self, ids: Tensor, offsets: Tensor, weights: Tensor | None, inside: Callable[..., Tensor]) -> Tensor:
        """Bags `(B, T, D)` as the bag of hot ids plus the bag of the others, by `inside(ids, offsets, weights)`."""
        tables = None if self.count == 1 else self._tables_of(offsets, ids.shape[0])
        slots = self.slots(ids, tables)
        hot = slots >= 0
        cold = ~hot
        before = F.pad(hot.cumsum(0), (1, 0))[offsets]  # hot ids ahead of each bag
        rows = inside(ids[cold], offsets - before, None if weights is None else weights[cold])
        exact = F.embedding_bag(
            self._rows_in_stack(slots[hot], None if tables is None else tables[hot]),
            self._values(weights is not None and weights.requires_grad),
            before,
            mode="sum",
            sparse=self.first.sparse,
            per_sample_weights=None if weights is None else weights[hot],
            include_last_offset=True,
        )
        if self.first.mode != "mean":
            return rows + self._by_bag(exact)
        one = 1 / offsets.diff().clamp(min=1).unsqueeze(1).double()
        others = (offsets - before).diff().unsqueeze(1) * one
        return rows * self._by_bag(others.to(rows.dtype)) + self._by_bag(exact * one.to(exact.dtype))

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """See `TableGroup.assemble`."""
        slots = self.slots(ids, tables)
        if self.first.table.arrays():
            rows = self.inner.assemble(ids, tables, take)
        else:  # of what is inside all are codes already
            order = tables.argsort(stable=True)
            found = self.inner.lookups(ids[order], tables[order])
            rows = torch.empty_like(found).index_copy(0, order, found)
        exact = take("hot_rows", slots.clamp(min=0))
        return torch.where((slots >= 0).unsqueeze(1), exact, rows.to(exact.dtype))

    def take(self, tables: Tensor) -> Take:
        """Hot rows of the tables, and what the group inside takes."""
        inside = self.inner.take(tables)

        def taken(name: str, index: Tensor, segment: Tensor | None = None, **of: Tensor) -> Tensor:
            if name != "hot_rows":
                return inside(name, index, segment, **of)
            return F.embedding(self._rows_in_stack(index, tables), self._values(), sparse=self.first.sparse)

        return taken

    def routing_bytes(self) -> int:
        """Those of hot rows and of the group inside."""
        return TableGroup.routing_bytes(self) + self.inner.routing_bytes()

    def fold(self) -> TableGroup | list[Compressor]:
        """Hot rows around what the group inside folds to."""
        inner = self.inner.fold()
        tables = inner.tables if isinstance(inner, TableGroup) else inner
        served: list[Compressor] = [table.served(inside) for table, inside in zip(self.tables, tables)]
        # where the ones inside come apart they need not go together any more
        return HotGroup(served, self.names, inner).eval() if isinstance(inner, TableGroup) else served


def _shapes_alone(ids: Tensor) -> bool:
    """Whether no shape can depend on the ids."""
    return without_values(ids) or torch._C._functorch.is_batchedtensor(ids)


def _one_a_bag(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Ids `(B, T)` as bags of one each, table after table."""
    return ids.t().reshape(-1), torch.arange(ids.numel() + 1, device=ids.device)


@torch._disable_dynamo  # torch.compiler.disable is the same, but imports all of the compiler here
def _training_step(group: HotGroup, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
    """Bags of a training step: before it rows that are due enter, after it the ids count."""
    for table in group.tables:
        table.refresh()
    out = TableGroup._checked_bags(group, ids, offsets, weights)
    bags = (offsets.shape[0] - 1) // group.count
    ends = offsets[::bags].diff().tolist() if bags else [0] * group.count
    for table, own in zip(group.tables, ids.split(ends)):
        table.count(own)
    return out


_REASON = "hot:online counts ids while it trains, which a graph cannot hold: compile without fullgraph"
vars(_training_step).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=_REASON)
