"""`TableGroup`: the tables of one method in a model, which it answers for in one call."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from embpress.compressors.arrays import Take
from embpress.compressors.bags import integers, without_values
from embpress.compressors.by_recipe import ByRecipe, NoRecipe, by_recipe, serving
from embpress.compressors.frozen import frozen
from embpress.compressors.integers import Constants, Integers
from embpress.kernels import ops, recipes
from embpress.kernels.errors import IdOutOfRange
from embpress.kernels.reference import pool

if TYPE_CHECKING:
    from embpress.compressors.base import Compressor
    from embpress.compressors.by_recipe import Arrays, Stores


_FORMS = {torch.float32: recipes.Form.FLOAT32, torch.bfloat16: recipes.Form.BFLOAT16}


class _Only(Sequence[Any]):
    """A table by a reference that does not keep it alive: the table holds the group that holds this."""

    def __init__(self, table: Compressor) -> None:
        self._table = weakref.ref(table)

    def __getitem__(self, position: Any) -> Any:
        if position != 0:
            raise IndexError(position)
        return self._table()

    def __len__(self) -> int:
        return 1


class TableGroup(nn.Module):
    """Tables of one method, one width and one way of pooling; `forward` answers bags of all of them in one call.

    It owns their storage. Parameters named in the method's `stacked` become one parameter `(Σ rows, …)`, which the
    tables look up here, their constants one `(T, …)`. A method with an op for many tables overrides `rows`, and
    `lookups` or `bags`, in a subclass that its class names as `group`; what it must take over besides it says in
    `_take_over`.

    Args:
        tables: what it answers for, of equal `group_key()`.
        names: what errors call them.
        alone: the one table keeps its storage: the group by which a table answers that is in no other.

    Attributes:
        tables: an `nn.ModuleList`, typed by what it holds; a subclass annotates it with the class of its method.
        names: what errors call the tables.
        count: how many tables.
        checks_ids: `rows` looks at the ids itself.
        pools_wide: bags of parameters in bfloat16 are summed in float32.
        learned: the parameters that `gradients` is about; none where it is not defined.
        gradients_read: `gradients` reads these parameters, not only their shape.
    """

    tables: Sequence[Compressor]
    checks_ids: ClassVar[bool] = False
    pools_wide: ClassVar[bool] = False
    learned: tuple[str, ...] = ()
    gradients_read: ClassVar[bool] = False
    _recipe: ByRecipe | None

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__()
        members: list[Compressor] = list(tables)
        self.count = len(members)
        if alone:
            self.tables = _Only(members[0])
        else:
            self.tables = cast("Sequence[Compressor]", nn.ModuleList(members))
            self.__dict__["_first"] = members[0]  # not through nn.Module, whose access takes longer than a small batch
        self.names = list(names) or [f"table {t}" for t in range(len(members))]
        self.constants = Constants()
        if alone:
            self.integers = members[0].integers
            return
        self._take_over(members)
        # after the storage has moved: where each table's rows start
        self.integers = Integers(
            **{name: [table.integers.values(name)[0] for table in members] for name in ("rows", "row_offsets")}
        )
        padding = [-1 if table.padding_idx is None else table.padding_idx for table in members]
        if max(padding) >= 0:
            self.integers["padding"] = padding

    @property
    def first(self) -> Any:
        """The first of the tables."""
        first = self.__dict__.get("_first")
        return self.tables[0] if first is None else first

    def _take_over(self, tables: list[Compressor]) -> None:
        """Makes the tables' storage the group's."""
        if len(tables) == 1:
            return
        for name in tables[0].stacked:
            self._stack(name, tables)
        for name in tables[0].constants:
            self.constants.put(name, torch.stack([table.constants[name] for table in tables]))
        self._give_parts(tables)

    def _give_parts(self, tables: list[Compressor]) -> None:
        """Makes the tables' constants parts of the group's: what is loaded into a table shows here."""
        for name in self.constants:
            for table, part in zip(tables, self.constants[name]):
                table.constants.put(name, part)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_recipe"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # a file keeps no memory twice that is no parameter; a table that the group was reached from comes later
        if all("constants" in table.__dict__ for table in self.tables):
            self._give_parts(list(self.tables))

    def _share(self, name: str, tables: list[Compressor]) -> None:
        """Takes over a parameter that all the tables hold together."""
        shared = cast("nn.Parameter", tables[0].whole(name))
        for table in tables:
            table.adopt(self, name, None)
        self.register_parameter(name, shared)

    def _stack(self, name: str, tables: list[Compressor]) -> None:
        """Stacks a parameter's rows; each table's own memory is freed as soon as it is copied."""
        parts = [table.own(name) for table in tables]
        counts = [part.shape[0] for part in parts]
        wanted = any(part.requires_grad for part in parts)
        stacked = nn.Parameter(parts[0].new_empty(sum(counts), *parts[0].shape[1:]), wanted)
        offset = 0
        for t, (table, count) in enumerate(zip(tables, counts)):
            with torch.no_grad():
                stacked[offset : offset + count] = parts[t]
            parts[t] = stacked  # lets go of the table's own
            table.adopt(self, name, slice(offset, offset + count))
            offset += count
        self.register_parameter(name, stacked)

    # --- the primitive ------------------------------------------------------------------------------------------------

    def forward(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """Bags of all tables.

        Args:
            ids: int32 or int64: `(B, T)`, one id a bag; or with offsets `(N,)`, table after table.
            offsets: `(T * B + 1,)`: bag b of table t is `ids[offsets[t B + b] : offsets[t B + b + 1]]`.
            weights: the shape of the ids, the tables' dtype; for sums.

        Returns:
            `(B, T, D)`; ids equal to a table's `padding_idx` are left out.

        Raises:
            IndexError: an id out of range, naming the table. ValueError: offsets that do not fit.
        """
        integers(ids, "ids")
        if weights is not None:
            self._check_weights(weights)
        if offsets is None:
            if ids.dim() != 2 or ids.shape[1] != self.count:
                raise ValueError(f"ids must be (B, {self.count}), got {tuple(ids.shape)}")
        elif (offsets.shape[0] - 1) % self.count:
            raise ValueError(f"{offsets.shape[0]} offsets are not those of {self.count} tables and the end")
        try:
            if (served := self.served(ids, offsets, weights)) is not None:
                return served
            if offsets is not None:
                return self._jagged(ids, offsets.long(), weights)
            return self.answer(self._checked(ids), weights)
        except IdOutOfRange as error:
            raise named(error, self.names) from None

    def _check_weights(self, weights: Tensor) -> None:
        if self.first.mode != "sum":
            raise ValueError(f"weights go with mode='sum', {self.names[0]} has mode={self.first.mode!r}")
        if weights.dtype != self.first.row_dtype:
            want, got = (str(dtype).removeprefix("torch.") for dtype in (self.first.row_dtype, weights.dtype))
            raise TypeError(f"per_sample_weights must have the table's dtype {want}, got {got}")

    def checked_rows(self, ids: Tensor) -> Tensor:
        """Rows `(B, T, D)` of ids `(B, T)`, padding like any other."""
        try:
            served = None if "padding" in self.integers else self.served(ids)
            return self.rows(self._checked(ids)) if served is None else served
        except IdOutOfRange as error:
            raise named(error, self.names) from None

    def served(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor | None:
        """`forward` by recipe, where nothing asks for more than the answer and there is a recipe; else None."""
        if not serving():
            return None
        if "_recipe" not in self.__dict__:
            self.__dict__["_recipe"] = by_recipe([(self, t) for t in range(self.count)], range(self.count))
        served: ByRecipe | None = self.__dict__["_recipe"]
        return None if served is None else served(ids, None if offsets is None else offsets.long(), weights)

    def _checked(self, ids: Tensor) -> Tensor:
        return ids if self.checks_ids else ops.check_ids(ids, self.integers.on(ids.device, "rows"))

    def answer(self, ids: Tensor, weights: Tensor | None = None) -> Tensor:
        """`forward` of ids `(B, T)` that have been checked."""
        rows = self.rows(ids)
        if "padding" in self.integers:
            padding = ids == self.integers.on(ids.device, "padding")
            rows = rows.masked_fill(padding.unsqueeze(-1), 0)
            # neither a weight nor a row that is no number may show in a gradient
            weights = None if weights is None else weights.masked_fill(padding, 0)
        return rows if weights is None else rows * weights.unsqueeze(-1)

    def _jagged(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """`forward` of bags with offsets int64."""
        offsets = ops.check_offsets(offsets, ids.shape[0])
        rows = self.integers.on(ids.device, "rows")
        ids = ops.check_ids(ids, rows, tables=None if self.count == 1 else self._tables_of(offsets, ids.shape[0]))
        return self._checked_bags(ids, offsets, weights)

    def _checked_bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """`_jagged` of what has been checked."""
        if "padding" in self.integers:
            tables = self._tables_of(offsets, ids.shape[0])
            keep = ids != self.integers.on(ids.device, "padding")[tables]
            if without_values(ids):
                return self._masked_bags(ids, offsets, weights, keep)
            offsets = nn.functional.pad(keep.cumsum(0), (1, 0))[offsets]
            ids, weights = ids[keep], None if weights is None else weights[keep]
        return self.bags(ids, offsets, weights)

    def _masked_bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None, keep: Tensor) -> Tensor:
        """Bags in which the ids that are not kept count as zeros: how many there are shows in no shape."""
        rows = self._looked_up(ids, offsets).masked_fill(~keep.unsqueeze(1), 0)
        pooled = pool(rows, offsets, weights, False)
        if self.first.mode == "mean":
            lengths = nn.functional.pad(keep.cumsum(0), (1, 0))[offsets].diff()
            pooled = pooled / lengths.clamp(min=1).unsqueeze(1)
        return self._by_bag(pooled)

    def _tables_of(self, offsets: Tensor, size: int) -> Tensor:
        """The table of each of `size` lookups, `(N,)` int64."""
        if self.count == 1:
            return offsets.new_zeros(1).expand(size)
        bags = (offsets.shape[0] - 1) // self.count
        ends = offsets[:: max(1, bags)][: self.count + 1]
        return torch.repeat_interleave(ends.diff(), output_size=size)

    # --- what a method's group overrides ------------------------------------------------------------------------------

    def rows(self, ids: Tensor) -> Tensor:
        """Checked ids, one a table: `(B, T)` int32 or int64 → `(B, T, D)`."""
        return torch.stack([table._lookup(ids[:, t].long()) for t, table in enumerate(self.tables)], dim=1)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        """Rows of checked ids `(N,)` of the tables `(N,)` int64, ascending → `(N, D)`."""
        if without_values(ids):  # how many ids are whose shows in no shape: every table answers for all
            answers = [table._lookup(ids.long().clamp(max=table.num_embeddings - 1)) for table in self.tables]
            return torch.stack(answers)[tables, torch.arange(ids.shape[0], device=ids.device)]
        counts = torch.bincount(tables, minlength=self.count).tolist()
        return torch.cat([table._lookup(part.long()) for table, part in zip(self.tables, ids.split(counts))])

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """Rows `(N, D)` of checked ids `(N,)` int64 of the tables `(N,)` int64, in any order, from rows of the arrays.

        It reads no parameter: `take(name, index)` gives rows of what a table's `arrays` names, for each lookup; and
        `take(name, index, tables=…)` for the `(M, …)` rows of other tables `(M,)`, such as those of tiles.
        """
        raise TypeError(f"{type(self).__name__} does not define assemble(ids, tables, take)")

    def take(self, tables: Tensor) -> Take:
        """Rows of the arrays as these tables are trained, for lookups in the tables `(N,)`; differentiable."""

        lookups = tables

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            tables = lookups if tables is None else tables
            array = self.first.array(name)
            matrix = array if array.dim() == 2 else array.view(array.shape[0], -1)
            if name in self.first.stacked:
                starts = torch.tensor([table.row_offset_in(name) for table in self.tables], device=index.device)
                index = index + starts[tables].view(-1, *[1] * (index.dim() - 1))
            return nn.functional.embedding(
                index, matrix, sparse=self.first.sparse and name in self.first.row_parameters
            )

        return taken

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[recipes.Made, Any]:
        """How table t makes its rows, for serving it with others in one call; see `ops.recipe_lookup`.

        Args:
            t: number of the table.
            stores: where rows of what its `arrays` call by name are kept.
            arrays: to which constants are added, or watched, that the recipe needs.

        Returns:
            Parts, chunks or cores, and its `recipes.HotRows` or None.

        Raises:
            NoRecipe: it cannot be said so.
        """
        raise NoRecipe

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        """Gradients of the parameters `learned`, where rows were answered by recipe: as of what `rows` does.

        Args:
            ids: `(B, T)`, in range.
            grad: `(B, T, D)`, of their rows.
            held: the parameters, each that of all tables.
        """
        raise TypeError(f"{type(self).__name__} does not define gradients(ids, grad, held)")

    def store(self, name: str, t: int, arrays: Arrays) -> tuple[recipes.Store, int]:
        """Where rows of what table t's `arrays` call `name` are kept, and the first of them. Raises NoRecipe."""
        table = self.tables[t]
        owner: Any = table.__dict__["_group"] if name in table._adopted else table
        path, _, own = name.rpartition(".")
        number, held = arrays.parameter(owner.get_submodule(path), own)
        form = _FORMS.get(held.dtype)
        if form is None:
            raise NoRecipe
        return recipes.Store(form, number, bits=8 * held.itemsize), table.row_offset_in(name)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Checked bags without padding, as in `forward` → `(B, T, D)`."""
        rows = self._looked_up(ids, offsets)
        return self._by_bag(pool(rows, offsets, weights, self.first.mode == "mean"))

    def _looked_up(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """Rows `(N, D)` of the ids of all bags."""
        if self.count == 1:
            return self.rows(ids.unsqueeze(1)).squeeze(1)
        return self.lookups(ids, self._tables_of(offsets, ids.shape[0]))

    def _by_bag(self, pooled: Tensor) -> Tensor:
        """Bags `(T * B, D)`, table after table → `(B, T, D)`."""
        if self.count == 1:
            return pooled.unsqueeze(1)
        return pooled.view(self.count, pooled.shape[0] // self.count, pooled.shape[1]).transpose(0, 1)

    def _constants(self, device: torch.device) -> dict[str, Tensor]:
        """Constants of the tables, `(T, …)`."""
        if self.count == 1:
            return {name: self.first.constants.on(device, name).unsqueeze(0) for name in self.first.constants}
        return {name: self.constants.on(device, name) for name in self.constants}

    def _constants_of(self, tables: Tensor) -> dict[str, Tensor]:
        """Constants of the tables `(N,)`, `(N, …)`."""
        constants = self._constants(tables.device)
        return constants if self.count == 1 else {name: value[tables] for name, value in constants.items()}

    def _in_stack(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """Checked ids `(N,)` as rows of the parameters that the group stacked, int64."""
        if self.count == 1:
            row_offset = self.first.row_offset_in(self.first.stacked[0])
            return ids.long() + row_offset if row_offset else ids.long()
        return ids + self.integers.on(ids.device, "row_offsets")[self._tables_of(offsets, ids.shape[0])]

    # --- bytes and serving --------------------------------------------------------------------------------------------

    def routing_bytes(self) -> int:
        """Bytes that a GPU keeps to tell the tables apart; none on the CPU."""
        return self.integers.bytes_on(self.first.device)

    def fold(self) -> TableGroup | list[Compressor]:
        """What serves the tables, on this one's memory: a group where they stay together, else a table each."""
        if any(table.folds_apart() for table in self.tables):
            return [table.fold() for table in self.tables]
        folded: TableGroup = frozen(self)
        for table in folded.tables:
            table._drop_training_state()
        return folded


def named(error: IdOutOfRange, names: Sequence[str]) -> IdOutOfRange:
    """The error of an id with the name of its table, which ops know by its number."""
    return error if isinstance(error.table, str) else error.of(names[error.table or 0])


def group_of(tables: Sequence[Compressor], names: Sequence[str] = ()) -> TableGroup:
    """The group of tables of one method."""
    return (tables[0].group or TableGroup)(tables, names)


def members(tables: Sequence[Compressor]) -> list[list[int]]:
    """Which tables can be answered together, in the order of the first of each."""
    by_key: dict[tuple[object, ...], list[int]] = {}
    for t, table in enumerate(tables):
        by_key.setdefault(table.group_key(), []).append(t)
    return list(by_key.values())
