"""`TableCollection`: all tables of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.bags import integers, own_output
from embpress.compressors.base import Compressor
from embpress.compressors.by_recipe import learning, serving
from embpress.compressors.group import TableGroup, group_of, members, named
from embpress.compressors.integers import Integers
from embpress.compressors.ledger import Entry, Ledger
from embpress.compressors.maintenance import replaced
from embpress.compressors.options import TableOptions
from embpress.compressors.spec import MethodSpec, parse
from embpress.compressors.tables.build import build_tables, sparse_tables
from embpress.compressors.tables.joining import joined
from embpress.compressors.tables.learning_call import LearningCall
from embpress.compressors.tables.one_call import OneCall
from embpress.compressors.tables.planning.plan import Plan, TableConfig
from embpress.compressors.tables.planning.proportional import plan
from embpress.compressors.tables.serving import folded_group
from embpress.compressors.tables.sharing import divided
from embpress.kernels import ops
from embpress.kernels.autograd import is_direct
from embpress.kernels.errors import IdOutOfRange, OffsetsError

BagInput = Tensor | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]


class TableCollection(nn.Module):
    """The tables of a model: what each uses, the memory they share, their ledger, and lookups in all of them at once.

    Tables that can be answered together form a group, whose one call answers all of them. Build it with `build`.

    Attributes:
        configs: the tables asked for, at the model's own width.
        embedding_dim: the width of the rows that come out.
        groups: one `TableGroup` for each kind of table.
        full_bytes: `Σ 4 n D` at the model's own width.
    """

    groups: Sequence[TableGroup]

    def __init__(self, configs: Sequence[TableConfig], tables: Sequence[Compressor], full_bytes: int) -> None:
        super().__init__()
        self.configs = list(configs)
        self.full_bytes = full_bytes
        self.embedding_dim = tables[0].embedding_dim
        parts = members(tables)
        self._take([group_of([tables[t] for t in part], self._names(part)) for part in parts], parts)

    def _take(self, groups: Sequence[TableGroup], parts: Sequence[list[int]]) -> None:
        """Makes these groups the collection's, which stand for these tables."""
        self.groups = cast("Sequence[TableGroup]", nn.ModuleList(groups))
        self.members = list(parts)
        self.names = self._names(range(len(self.configs)))
        self.integers = Integers(
            rows=[config.num_embeddings for config in self.configs],
            places=[t for part in parts for t in part],
            order=sorted(range(len(self.configs)), key=[t for part in parts for t in part].__getitem__),
            **{f"group {g}": part for g, part in enumerate(parts)},
        )
        self._in_order = len(parts) == 1 and parts[0] == sorted(parts[0])
        self._maintained = [table for table in self.tables if table.tags.maintain]

    @classmethod
    def build(
        cls,
        configs: Sequence[TableConfig],
        method: str | MethodSpec | Plan = "full",
        *,
        ratio: float | None = None,
        budget: int | None = None,
        min_rows: int = 200,
        largest: int | None = None,
        sparse: bool | Literal["auto"] | None = None,
        update: dict[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: Generator | None = None,
    ) -> TableCollection:
        """Makes all tables of a model under one total budget.

        Args:
            configs: the tables, all of one width.
            method: such as `"robe:z=32+bf16"`, for all tables; or a plan, which says it for each of them.
            ratio: full bytes / serving bytes of all tables together.
            budget: serving bytes of all tables together.
            min_rows: smaller tables stay full, and count.
            largest: compress only so many tables, the largest.
            sparse: sparse gradients where the method has them; default: where its parameters have over 100,000
                rows in all. `"auto"`: also wherever a step on the rows of a batch (`ops.update_rows`, or another
                optimizer that changes no other row) is faster than one on all rows.
            update: `optimizer` and `learning_rate` of methods that update themselves, where a spec names none.
            device, dtype, generator: as in `Compressor`.

        Raises:
            BudgetError: the size cannot be reached. InputError: a method or a plan that does not fit.
        """
        if isinstance(method, Plan):
            made = method.on(configs)
        else:
            spec = parse(method) if isinstance(method, str) else method
            made = plan(spec, configs, ratio=ratio, budget=budget, min_rows=min_rows, largest=largest)
        wants = sparse_tables(made, sparse)

        def options(t: int) -> TableOptions:
            return TableOptions(device=device, dtype=dtype, generator=generator, sparse=wants[t])

        return cls(configs, build_tables(made, options, update), made.full_bytes)

    @property
    def tables(self) -> list[Compressor]:
        """The tables in the order of `configs`."""
        by_number = {t: table for part, group in zip(self.members, self.groups) for t, table in zip(part, group.tables)}
        return [by_number[t] for t in range(len(self.configs))]

    def _names(self, part: Sequence[int]) -> list[str]:
        return [self.configs[t].name or f"table {t}" for t in part]

    def forward(self, inputs: Tensor | Sequence[BagInput]) -> Tensor:
        """Lookups in all tables.

        Args:
            inputs: `(B, F)` int32 or int64, one id a table; or a sequence of F inputs, each `(B,)` ids, or ids `(N,)`
                and offsets `(B,)`, or these and weights `(N,)`. Bags are pooled as the tables' mode says.

        Returns:
            `(B, F, D)`.

        Raises:
            IndexError: an id out of range, naming the table.
        """
        if isinstance(inputs, Tensor):
            if inputs.dim() != 2 or inputs.shape[1] != len(self.configs):
                raise ValueError(f"ids must be (B, {len(self.configs)}), got {tuple(inputs.shape)}")
            integers(inputs, "ids")
            if (one := self._one_call()) is not None:
                served = one.rows(inputs, lambda g: self.groups[g](self._columns(inputs, g)))
                if served is not None:
                    return served
            if len(self.groups) == 1:
                return self.groups[0](inputs)
            if not any(group.checks_ids for group in self.groups):  # all of them at once
                try:
                    ids = ops.check_ids(inputs, self.integers.on(inputs.device, "rows"))
                except IdOutOfRange as error:
                    raise named(error, self.names) from None
                parts = [group.answer(self._columns(ids, g)) for g, group in enumerate(self.groups)]
            else:
                parts = [group(self._columns(inputs, g)) for g, group in enumerate(self.groups)]
            return self._joined(parts)
        if len(inputs) != len(self.configs):
            raise ValueError(f"got {len(inputs)} inputs for {len(self.configs)} tables")
        if isinstance(one := self._one_call(), OneCall) and one.whole:
            ids, offsets, weights = jagged(inputs, self.names)
            if weights is not None:
                self.groups[0]._check_weights(weights)
            served = one.bags(ids, offsets, weights)
            if served is not None:
                return served
        parts = [self._bags(group, [inputs[t] for t in part]) for part, group in zip(self.members, self.groups)]
        for part, out in zip(self.members[1:], parts[1:]) if not torch.compiler.is_compiling() else ():
            if len(out) != len(parts[0]):
                first, other = self.names[self.members[0][0]], self.names[part[0]]
                raise ValueError(f"{first} has {len(parts[0])} bags, {other} has {len(out)}")
        return self._joined(parts)

    def _one_call(self) -> OneCall | LearningCall | None:
        """What answers many tables at once, where nothing but a gradient is asked, and no hook for a group."""
        training = learning()
        if not (training or serving()) or any(_hooked(group) for group in self.groups):
            return None
        calls = self.__dict__.setdefault("_calls", {})
        if training not in calls:
            calls[training] = (LearningCall if training else OneCall)(self.groups, self.members, self.names)
        one: OneCall | LearningCall = calls[training]
        return one

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_calls"}

    def _columns(self, ids: Tensor, group: int) -> Tensor:
        """The columns of one group."""
        columns = self.integers.on(ids.device, f"group {group}")
        return ops.take_columns(ids, columns) if is_direct() else ids.index_select(1, columns)

    @staticmethod
    def _bags(group: TableGroup, inputs: Sequence[BagInput]) -> Tensor:
        """One group's answer: columns of single ids by themselves stay the fast case."""
        plain = [value.shape for value in inputs if isinstance(value, Tensor)]
        if len(plain) == len(inputs) and len(set(plain)) == 1 and len(plain[0]) == 1:
            return group(torch.stack([cast(Tensor, value) for value in inputs], dim=1))
        return group(*jagged(inputs, group.names))

    def _joined(self, parts: list[Tensor]) -> Tensor:
        """The groups' outputs in the order of the tables."""
        if self._in_order:
            return own_output(parts[0], *parts[0].shape)
        if serving():
            return ops.join_columns(parts, self.integers.on(parts[0].device, "places"))
        device = parts[0].device
        order = self.integers.on(device, "order")
        if not is_direct():
            return torch.cat(parts, dim=1).index_select(1, order)
        places = self.integers.on(device, "places") if ops.backend("join_columns", device.type) == "native" else None
        columns = [self.integers.on(device, f"group {g}") for g in range(len(parts))]
        return joined(parts, places, order, columns)

    def begin_training(self, steps: int, epochs: int) -> None:
        """Tells every table how long training will be: see `Compressor.begin_training`."""
        for table in self.tables:
            table.begin_training(steps, epochs)

    def maintain(self, step: int | None = None) -> list[tuple[nn.Parameter, Tensor]]:
        """Parameters with rows that hold something else since the last call, and these rows: see `maintain`."""
        return replaced(self._maintained, step)

    @property
    def backend(self) -> str:
        """What answers the lookups: `native`, `reference`, `torch`, …, or `mixed`; plain full tables do not count."""
        kinds = {table.backend for table in self.tables} - {"torch"}
        return kinds.pop() if len(kinds) == 1 else ("mixed" if kinds else "torch")

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """Bytes of all tables; memory they share counts once. `batch_size` counts samples, one lookup a table each."""
        whole = Ledger()
        for t, (config, table) in enumerate(zip(self.configs, self.tables)):
            whole += table.ledger(optimizer, batch_size).renamed(f"{config.name or t}: ")
        routing = sum(group.routing_bytes() for group in self.groups)
        if len(self.groups) > 1:
            routing += self.integers.bytes_on(self.tables[0].device)
        if routing:
            entry = Entry("where each table's rows start", routing)
            whole += Ledger([entry], [entry])
        return whole

    @property
    def serving_bytes(self) -> int:
        """Every byte needed to answer lookups after `fold()`."""
        return self.ledger().serving_bytes

    @property
    def ratio(self) -> float:
        """Full bytes at the model's own width / serving bytes."""
        return self.full_bytes / self.serving_bytes

    def table_bytes(self) -> list[int]:
        """Serving bytes of each table; memory that tables share is divided in proportion to n·D, rounded."""
        return divided(self.tables)

    def fold(self, steps: int | None = None) -> TableCollection:
        """The collection to serve: equal lookups, no gradients, sharing memory with this one where it can.

        Args:
            steps: of each table's outermost modifiers that `fold()` alone applies only so many, from the inside out.
        """
        folded = [folded_group(group, steps) for group in self.groups]
        tables = {t: table for part, one in zip(self.members, folded) for t, table in zip(part, _tables_of(one))}
        keys = members([tables[t] for t in range(len(self.configs))])
        made = TableCollection.__new__(TableCollection)
        nn.Module.__init__(made)
        made.configs, made.full_bytes, made.embedding_dim = self.configs, self.full_bytes, self.embedding_dim
        # a group that goes on as it is keeps its memory; the others are put together anew
        as_it_is = {tuple(part): one for part, one in zip(self.members, folded) if isinstance(one, TableGroup)}
        made._take(
            [as_it_is.get(tuple(part)) or group_of([tables[t] for t in part], self._names(part)) for part in keys], keys
        )
        return made.eval()

    def extra_repr(self) -> str:
        """Tables, width, size."""
        return (
            f"{len(self.configs)} tables, width {self.embedding_dim}, serving_bytes={self.serving_bytes}, "
            f"ratio={self.ratio:.3g}"
        )


def _hooked(group: TableGroup) -> bool:
    """Whether something is to be called when the group is."""
    forward = group._forward_hooks or group._forward_pre_hooks
    return bool(forward or group._backward_hooks or group._backward_pre_hooks)


def _tables_of(folded: TableGroup | list[Compressor]) -> Sequence[Compressor]:
    return folded.tables if isinstance(folded, TableGroup) else folded


def jagged(inputs: Sequence[BagInput], names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs of some tables as a group takes them: ids `(N,)`, offsets `(T * B + 1,)` and weights `(N,)` or None.

    Raises:
        ValueError: offsets that do not start at 0, or another number of bags than the first table has; names the table.
    """
    ids: list[Tensor] = []
    offsets: list[Tensor] = []
    weights: list[Tensor] = []
    start = 0
    weighted = next((value[2] for value in inputs if not isinstance(value, Tensor) and len(value) == 3), None)
    for name, value in zip(names, inputs):
        if isinstance(value, Tensor):
            value = value, torch.arange(value.shape[0], device=value.device)
        values, bounds, *weight = value
        if values.dim() != 1 or bounds.dim() != 1:
            raise ValueError(f"{name}: ids and offsets must be 1-D, got {values.dim()} and {bounds.dim()} dimensions")
        if weight and weight[0].shape != values.shape:
            raise ValueError(f"{name} has {len(values)} ids and {len(weight[0])} weights")
        if bounds.shape[0] != (offsets[0] if offsets else bounds).shape[0]:  # by len() a trace has one size for ever
            raise ValueError(f"{name} has {bounds.shape[0]} bags, {names[0]} has {offsets[0].shape[0]}")
        try:
            own = ops.check_offsets(integers(bounds, "offsets"), values.shape[0], include_last_offset=False)
        except OffsetsError as error:
            raise OffsetsError(f"{name}: {error}") from None
        ids.append(integers(values, "ids"))
        offsets.append(own[:-1] + start)
        if weighted is not None:
            weights.append(weight[0] if weight else weighted.new_ones(values.shape))
        start += values.shape[0]
    end = offsets[0].new_full((1,), start)
    return torch.cat(ids), torch.cat([*offsets, end]), torch.cat(weights) if weights else None
