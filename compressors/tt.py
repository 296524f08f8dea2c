"""TT-Rec: a table as a tensor train of 2 to 4 small cores (Yin et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Unpack

from embpress.compressors.bags import Bags, check_form, integers
from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.registry import register
from embpress.compressors.tt_init import check_init, init_cores
from embpress.compressors.tt_shapes import core_ranks, factor_rows, factor_width, num_parameters
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
