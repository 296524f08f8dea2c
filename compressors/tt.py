"""TT-Rec: a table as a tensor train of 2 to 4 small cores (Yin et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Self, Unpack

from embpress.compressors.bags import Bags, check_form, integers
from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.dense import DenseRows, relative_error
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.full import Full
from embpress.compressors.group import TableGroup
from embpress.compressors.registry import register
from embpress.compressors.tt_init import check_init, init_cores
from embpress.compressors.tt_ranks import goal
from embpress.compressors.tt_shapes import core_ranks, factor_rows, factor_width, num_parameters
from embpress.compressors.tt_svd import balanced, decompose
from embpress.kernels import ops


class _TTGroup(TableGroup):
    """One op call for all tables, whatever their shapes."""

    tables: Sequence[TTRec]

    def __init__(self, tables: Iterable[Compressor]) -> None:
        super().__init__(tables)
        if len({table.num_cores for table in self.tables}) > 1:
            raise InputError("tt: the tables of a model need the same number of cores")

    def lookup(self, ids: Tensor) -> Tensor:
        return ops.tt_embedding_bag(
            [core for table in self.tables for core in table._cores()],
            ids,
            num_embeddings=[table.num_embeddings for table in self.tables],
            num_cores=self.tables[0].num_cores,
            store=self.tables[0].store,
        )


@register("tt")
class TTRec(Compressor):
    """Row `i` with digits `i_1 … i_d` is `G_1[i_1] G_2[i_2] … G_d[i_d]`, core k of shape `(R_{k-1}, p_k, q_k, R_k)`.

    The cores are kept with the row digit first, `(p_k, R_{k-1}, q_k, R_k)`.

    Args:
        rank: TT rank, or `d - 1` ranks (`16x32` in a spec); default 32.
        cores: number of cores d, 2 to 4.
        init: `sampled-gaussian` (the paper's), `gaussian`, `uniform`, all with the table's variance `1/(3n)`, or
            `sampled-gaussian-fbtt`, the published code's scale.
        rows: factors `p` with `prod p >= n`; default: even, with little padding.
        columns: factors `q` with `prod q = D`; default: even, the largest last.
        store: keep the partial products of a training step's forward for its backward instead of making them again.
    """

    size_knobs: ClassVar[tuple[str, ...]] = ("rank",)
    group = _TTGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        rank: int | tuple[int, ...] = 32,
        cores: int = 3,
        init: str = "sampled-gaussian",
        rows: tuple[int, ...] | None = None,
        columns: tuple[int, ...] | None = None,
        store: bool = False,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        check_init(init)
        self.rows, self.columns = _shape(num_embeddings, embedding_dim, cores, rows, columns)
        given = (rank,) if isinstance(rank, int) else rank
        if len(given) not in ((1,) if isinstance(rank, int) else (cores - 1,)) or min(given) < 1:
            raise InputError(f"tt: rank={rank} must be one positive rank, or {cores - 1} of them for {cores} cores")
        self.ranks = core_ranks(rank, self.rows, self.columns)
        self.rank, self.num_cores, self.init, self.store = rank, cores, init, store
        self.cores = nn.ParameterList(
            torch.empty(
                p, self.ranks[k], q, self.ranks[k + 1], device=options.get("device"), dtype=options.get("dtype")
            )
            for k, (p, q) in enumerate(zip(self.rows, self.columns))
        )
        self.reset_parameters(options.get("generator"))

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws the cores by the named initialisation."""
        if self.cores[0].device.type != "meta":
            init_cores(list(self.cores), self.num_embeddings, self.init, generator)

    def knobs(self) -> dict[str, object]:
        """Rank, number of cores, initialisation and shapes as resolved."""
        return {
            "rank": self.rank,
            "cores": self.num_cores,
            "init": self.init,
            "rows": self.rows,
            "columns": self.columns,
        }

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """See `Compressor.forward`; the op itself pools and checks the ids."""
        check_form(input, offsets, per_sample_weights, mode=self.mode, include_last_offset=self.include_last_offset)
        return self._op(input, offsets, per_sample_weights)

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of ids: `(*)` int32 or int64 → `(*, D)`, differentiable; IndexError for an id out of range."""
        return self._lookup(integers(ids, "ids").reshape(-1)).view(*ids.shape, self.embedding_dim)

    def _lookup(self, ids: Tensor) -> Tensor:
        return self._op(ids.unsqueeze(1), None, None, padding=False)

    def _bag(self, bags: Bags) -> Tensor:
        ids = bags.ids if bags.offsets is not None else bags.ids.unsqueeze(1)
        weights = bags.weights if bags.weights is None else bags.weights.view(ids.shape)
        return self._op(ids, bags.offsets, weights, last=True)

    def _op(
        self,
        ids: Tensor,
        offsets: Tensor | None,
        weights: Tensor | None,
        padding: bool = True,
        last: bool | None = None,
    ) -> Tensor:
        try:
            return ops.tt_embedding_bag(
                self._cores(),
                ids,
                offsets,
                weights,
                num_embeddings=(self.num_embeddings,),
                padding_idx=(self.padding_idx,) if padding and self.padding_idx is not None else (),
                num_cores=self.num_cores,
                mean=self.mode == "mean",
                include_last_offset=self.include_last_offset if last is None else last,
                store=self.store,
            ).squeeze(1)
        except IndexError as error:
            raise IndexError(str(error).replace("table 0", "the table")) from None

    def _activation_bytes(self, batch_size: int) -> int:
        """Rows, the plan of the batch (int32), and with `store` the partial products before the last core."""
        grouped = max(1, self.num_cores - 2)  # the core whose digit groups the lookups
        plan = 4 * (batch_size * (3 + self.num_cores) + 2 * self.rows[grouped] + 1)
        partial = 0
        if self.store and self.num_cores > 2:
            widest = 64 // self.itemsize  # elements of a vector: pieces are padded to whole ones, and rows by one more
            pieces = math.prod(self.columns[:grouped])
            padded = -(-self.ranks[-2] // widest) * widest
            partial = pieces * (self.columns[grouped] * padded + widest) * self.itemsize
        return batch_size * (8 + self.embedding_dim * self.itemsize + partial) + plan

    def _cores(self) -> list[Tensor]:
        # not through ParameterList's own access, which formats a name for each
        return list(self.cores._parameters.values())  # type: ignore[arg-type]

    @classmethod
    def serving_size(cls, num_embeddings: int, embedding_dim: int, **knobs: Any) -> int:
        """`4 Σ R_{k-1} p_k q_k R_k` bytes."""
        cores, rank = knobs.get("cores", 3), knobs.get("rank", 32)
        rows, columns = _shape(num_embeddings, embedding_dim, cores, knobs.get("rows"), knobs.get("columns"))
        return 4 * num_parameters(rows, columns, core_ranks(rank, rows, columns))

    @classmethod
    def for_budget(
        cls,
        n: int,
        dim: int,
        size: int,
        *,
        cores: int = 3,
        init: str = "sampled-gaussian",
        rows: tuple[int, ...] | None = None,
        columns: tuple[int, ...] | None = None,
    ) -> dict[str, int]:
        """The largest rank whose cores fit into `size` bytes."""

        def total(rank: int) -> int:
            return cls.serving_size(n, dim, cores=cores, rows=rows, columns=columns, rank=rank)

        if total(1) > size:
            raise BudgetError(f"tt cannot hold {n} rows of width {dim} in {size} bytes", total(1))
        low, high = 1, 2
        while total(high) <= size and total(high) > total(high - 1):
            low, high = high, 2 * high
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if total(middle) <= size else (low, middle - 1)
        while low > 1 and total(low - 1) == total(low):  # the cut at the unfoldings' ranks makes larger ranks equal
            low -= 1
        return {"rank": low}

    @classmethod
    @torch.no_grad()
    def from_dense(
        cls,
        weight: Any,
        *,
        rank: int | tuple[int, ...] | None = None,
        tolerance: float | None = None,
        budget: int | None = None,
        ratio: float | None = None,
        cores: int = 3,
        init: str = "sampled-gaussian",
        rows: tuple[int, ...] | None = None,
        columns: tuple[int, ...] | None = None,
        **options: Unpack[TableOptions],
    ) -> tuple[Self, float]:
        """A train near a trained table, by TT-SVD (Oseledets 2011), and its relative error.

        Given ranks are within `√(d-1)` of the least error that they can have. The table may be larger than memory: it
        is read in slices of rows. The time grows with `n D` times `p_k q_k` of the first and of the last core, so that
        a large table takes long with two cores.

        Args:
            weight: `(n, D)` floating point: a tensor, a NumPy array, `np.load(path, mmap_mode="r")`, or anything with
                `shape` whose slices `weight[a:b]` are arrays.
            rank: one rank or `d - 1`; default 32 where nothing else is given.
            tolerance: the largest relative Frobenius error; of the ranks that keep it the smallest are taken.
            budget: serving bytes; each rank is chosen for the least error, which is then no more than that of the
                largest `rank` for all that fits, rows that pad the table (zero) included.
            ratio: `4 n D` over the serving bytes, instead of a budget.
            cores, init, rows, columns: as in the constructor; `init` only matters to `reset_parameters`.
            **options: those of `TableOptions`; device and dtype are the table's own by default.

        Returns:
            The table, trainable, and `‖lookups - weight‖ / ‖weight‖` over the n rows, measured.

        Raises:
            InputError: more than one of the four, or a table, tolerance or shape that does not fit.
            BudgetError: rank 1 takes more than the budget.
        """
        table = DenseRows(weight)
        n, dim = table.shape
        device, dtype = options.get("device") or table.device, options.get("dtype") or table.dtype
        rows, columns = _shape(n, dim, cores, rows, columns)
        least = num_parameters(rows, columns, (1,) * (cores + 1))
        wanted = goal(dtype, 4 * n * dim, least, rank=rank, tolerance=tolerance, budget=budget, ratio=ratio)
        options["device"], options["dtype"] = device, dtype
        plain = options.copy()
        plain["device"] = "meta"  # what the constructor refuses is refused before the work
        cls(n, dim, rank=1 if rank is None else rank, cores=cores, init=init, rows=rows, columns=columns, **plain)
        found = balanced(decompose(table, rows, columns, device, **wanted))
        ranks = tuple(core.shape[3] for core in found[:-1])
        made = cls(n, dim, rank=ranks, cores=cores, init=init, rows=rows, columns=columns, **options)
        for core, values in zip(made.cores, found):
            core.copy_(values)
        widest = max(core[0].numel() for core in made.cores)  # a lookup gathers a slice of each core
        return made, relative_error(made, table, chunk=max(256, (1 << 20) // max(widest, dim)))

    def to_full(self) -> Full:
        """The table written out to serve, `(n, D)`: lookups equal up to rounding, nothing left to multiply."""
        return Full.serving(self, self.to_dense())


def _shape(
    n: int, dim: int, cores: int, rows: Sequence[int] | None, columns: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Factors of rows and width, given or automatic."""
    if cores not in (2, 3, 4):
        raise InputError(f"tt: cores={cores}, it must be 2, 3 or 4")
    rows = factor_rows(n, cores) if rows is None else tuple(rows)
    columns = factor_width(dim, cores) if columns is None else tuple(columns)
    if len(rows) != cores or math.prod(rows) < n or min(rows) < 1:
        raise InputError(f"tt: rows={rows} must be {cores} factors with a product of at least {n}")
    if len(columns) != cores or math.prod(columns) != dim:
        raise InputError(f"tt: columns={columns} must be {cores} factors with product {dim}")
    return rows, columns
