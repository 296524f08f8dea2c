"""`TableCollection`: all tables of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.bags import check_ids, integers, looks_at
from embpress.compressors.base import Compressor, TableOptions, frozen
from embpress.compressors.group import TableGroup
from embpress.compressors.ledger import Entry, Ledger
from embpress.compressors.maintenance import replaced
from embpress.compressors.methods.full import Full
from embpress.compressors.registry import MethodSpec, parse
from embpress.compressors.tables.budget import Plan, TableConfig, plan

# gradients of plain tables are sparse where all rows together are more than this
SPARSE_ROWS = 100_000
BagInput = Tensor | tuple[Tensor, Tensor]


class TableCollection(nn.Module):
    """The tables of a model: their budget, the memory they share, their ledger, and lookups in all of them at once.

    Tables of one method form a group that answers for all of them in one call. Build it with `build`.

    Attributes:
        configs: the tables asked for, at the model's own width.
        embedding_dim: the width of the rows that come out.
        groups: one `TableGroup` a method.
        full_bytes: `Σ 4 n D` at the model's own width.
    """

    groups: Sequence[TableGroup]
    _rows: Tensor

    def __init__(self, configs: Sequence[TableConfig], tables: Sequence[Compressor], full_bytes: int) -> None:
        super().__init__()
        self.configs = list(configs)
        self.full_bytes = full_bytes
        self.embedding_dim = tables[0].embedding_dim
        members: dict[type[Compressor], list[int]] = {}
        for t, table in enumerate(tables):
            members.setdefault(type(table), []).append(t)
        self.members = list(members.values())
        groups = nn.ModuleList(group_of([tables[t] for t in own]) for own in self.members)
        self.groups = cast("Sequence[TableGroup]", groups)
        self._maintained = [table for table in tables if hasattr(table, "maintain")]
        self._runs = [_runs_of(own) for own in self.members]
        device = tables[0].device
        rows = torch.tensor([s.num_embeddings for s in configs], device=device)
        self.register_buffer("_rows", rows, persistent=False)
        for g, own in enumerate(self.members):
            self.register_buffer(f"_own_{g}", torch.tensor(own, device=device), persistent=False)

    @classmethod
    def build(
        cls,
        configs: Sequence[TableConfig],
        method: str | MethodSpec = "full",
        *,
        ratio: float | None = None,
        budget: int | None = None,
        min_rows: int = 200,
        largest: int | None = None,
        sparse: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: Generator | None = None,
    ) -> TableCollection:
        """Makes all tables of a model with one method under one total budget.

        Args:
            configs: the tables, all of one width.
            method: such as `"robe:z=32"`.
            ratio: full bytes / serving bytes of all tables together.
            budget: serving bytes of all tables together.
            min_rows: smaller tables stay full, and count.
            largest: compress only so many tables, the largest.
            sparse: sparse gradients where the method has them; default: where the tables have over 100,000 rows in all.
            device, dtype, generator: as in `Compressor`.

        Raises:
            BudgetError: the size cannot be reached. InputError: a spec that does not fit.
        """
        spec = parse(method) if isinstance(method, str) else method
        made = plan(spec, configs, ratio=ratio, budget=budget, min_rows=min_rows, largest=largest)
        options = TableOptions(device=device, dtype=dtype, generator=generator)
        return cls(configs, build_tables(spec, configs, made, sparse, options), made.full_bytes)

    @property
    def tables(self) -> list[Compressor]:
        """The tables in the order of `configs`."""
        found = {t: table for own, group in zip(self.members, self.groups) for t, table in zip(own, group.tables)}
        return [found[t] for t in range(len(self.configs))]

    def forward(self, inputs: Tensor | Sequence[BagInput]) -> Tensor:
        """Lookups in all tables.

        Args:
            inputs: `(B, F)` int32 or int64, one id a table; or a sequence of F inputs, each `(B,)` ids or a pair of
                ids `(N,)` and offsets `(B,)`, whose bags are summed.

        Returns:
            `(B, F, D)`.

        Raises:
            IndexError: an id out of range, naming the table.
        """
        if isinstance(inputs, Tensor):
            if inputs.dim() != 2 or inputs.shape[1] != len(self.configs):
                raise ValueError(f"ids must be (B, {len(self.configs)}), got {tuple(inputs.shape)}")
            integers(inputs, "ids")
            self._check(inputs)
            return self._lookup(inputs)
        if len(inputs) != len(self.configs):
            raise ValueError(f"got {len(inputs)} inputs for {len(self.configs)} tables")
        if all(isinstance(value, Tensor) for value in inputs):
            return self(torch.stack([cast(Tensor, value) for value in inputs], dim=1))
        bags = [_bags_of_one(value) if isinstance(value, Tensor) else value for value in inputs]
        for t, (ids, _) in enumerate(bags):
            check_ids(ids, self.configs[t].num_embeddings, self._name(t))
        parts = [group.pooled([bags[t] for t in own]) for own, group in zip(self.members, self.groups)]
        return self._joined(parts)

    def _lookup(self, ids: Tensor) -> Tensor:
        if len(self.groups) == 1:
            return self.groups[0].lookup(ids)
        parts = [group.lookup(ids.index_select(1, getattr(self, f"_own_{g}"))) for g, group in enumerate(self.groups)]
        return self._joined(parts)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        """The groups' outputs in the order of the tables."""
        return parts[0] if len(parts) == 1 else _Join.apply(self._runs, *parts)

    def _check(self, ids: Tensor) -> None:
        if not looks_at(ids) or not bool(((ids < 0) | (ids >= self._rows)).any()):
            return
        row, t = ((ids < 0) | (ids >= self._rows)).nonzero()[0].tolist()
        n = self.configs[t].num_embeddings
        raise IndexError(f"id {int(ids[row, t])} is out of range: {self._name(t)} has {n} rows, 0 to {n - 1}")

    def _name(self, t: int) -> str:
        return self.configs[t].name or f"table {t}"

    def maintain(self, step: int | None = None) -> list[tuple[nn.Parameter, Tensor]]:
        """Parameters with rows that hold something else since the last call, and these rows: see `maintain`."""
        return replaced(self._maintained, step)

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """Bytes of all tables; memory they share counts once. `batch_size` counts samples, one lookup a table each.

        Not in it: the few integers a table, such as where its rows start, that groups derive from the tables' shapes to
        look them up together.
        """
        whole = Ledger()
        for spec, table, t in zip(self.configs, self.tables, range(len(self.configs))):
            whole += table.ledger(optimizer, batch_size).renamed(f"{spec.name or t}: ")
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
        ledgers = [table.ledger().serving for table in self.tables]
        users: dict[int, int] = {}
        size = [table.num_embeddings * table.embedding_dim for table in self.tables]
        for own, entries in zip(size, ledgers):
            for entry in entries:
                if entry.owner is not None:
                    users[entry.owner] = users.get(entry.owner, 0) + own

        def share(entry: Entry, own: int) -> float:
            return entry.bytes if entry.owner is None else entry.bytes * own / users[entry.owner]

        return [round(sum(share(entry, own) for entry in entries)) for own, entries in zip(size, ledgers)]

    def fold(self) -> TableCollection:
        """The collection to serve: equal lookups, no gradients, sharing memory with this one where it can."""
        if all(type(table).fold is Compressor.fold for table in self.tables):
            folded: TableCollection = frozen(self)
            for table in folded.tables:
                table._drop_training_state()
            return folded
        return TableCollection(self.configs, [table.fold() for table in self.tables], self.full_bytes).eval()

    def extra_repr(self) -> str:
        """Tables, width, size."""
        return (
            f"{len(self.configs)} tables, width {self.embedding_dim}, serving_bytes={self.serving_bytes}, "
            f"ratio={self.ratio:.3g}"
        )


def _bags_of_one(ids: Tensor) -> tuple[Tensor, Tensor]:
    return ids, torch.arange(ids.shape[0], device=ids.device)


class _Join(torch.autograd.Function):
    """The groups' outputs `(B, T_g, D)` in the order of the tables, `(B, F, D)`, in one pass over the memory."""

    @staticmethod
    def forward(ctx: Any, runs: list[list[tuple[int, int, int]]], *parts: Tensor) -> Tensor:
        ctx.runs = runs
        joined = parts[0].new_empty(len(parts[0]), sum(part.shape[1] for part in parts), parts[0].shape[2])
        for part, own in zip(parts, runs):
            for first, start, count in own:
                joined[:, first : first + count] = part[:, start : start + count]
        return joined

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return None, *(torch.cat([grad[:, first : first + n] for first, _, n in own], dim=1) for own in ctx.runs)


def _runs_of(tables: list[int]) -> list[tuple[int, int, int]]:
    """Runs of tables that follow each other, ascending ones: (first table, where it stands in the list, length)."""
    runs: list[tuple[int, int, int]] = []
    for place, t in enumerate(tables):
        if runs and t == sum(runs[-1][::2]):
            first, start, count = runs.pop()
            runs.append((first, start, count + 1))
        else:
            runs.append((t, place, 1))
    return runs


def group_of(tables: Sequence[Compressor]) -> TableGroup:
    """The group of tables of one method."""
    return getattr(type(tables[0]), "group", TableGroup)(tables)


def build_tables(
    spec: MethodSpec, configs: Sequence[TableConfig], made: Plan, sparse: bool | None, options: TableOptions
) -> list[Compressor]:
    """The tables of a plan in their order: the method's, and full ones for the rest."""
    plain = spec.cls is Full  # then small tables are no exception, and all share one group
    full = [t for t, knobs in enumerate(made.knobs) if knobs is None or plain]
    chosen = [t for t, knobs in enumerate(made.knobs) if knobs is not None and not plain]
    tables: dict[int, Compressor] = {}
    for cls, own in ((spec.cls, chosen), (Full, full)):
        if not own:
            continue
        rows = sum(configs[t].num_embeddings for t in own)
        want = rows > SPARSE_ROWS if sparse is None else sparse
        option: TableOptions = {**options, "sparse": want and "sparse" in cls.tags}
        knobs: list[dict[str, Any]] = [made.knobs[t] or {} for t in own]
        shapes = [(configs[t].num_embeddings, made.width) for t in own]
        for t, table in zip(own, cls.build_tables(shapes, knobs, [option] * len(own))):
            tables[t] = table
    return [tables[t] for t in range(len(configs))]
