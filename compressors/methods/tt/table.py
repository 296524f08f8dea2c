"""TT-Rec: a table as a tensor train of 2 to 4 small cores (Yin et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array
from embpress.compressors.base import Compressor
from embpress.compressors.cells import CellPart, Cells
from embpress.compressors.errors import InputError
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.full import Full
from embpress.compressors.methods.tt.cache import rows_to_cache, serving_bytes
from embpress.compressors.methods.tt.group import TTGroup, slices
from embpress.compressors.methods.tt.init import INITS, check_init, init_cores
from embpress.compressors.methods.tt.ranks import goal, largest_rank
from embpress.compressors.methods.tt.shapes import core_ranks, factors, num_parameters
from embpress.compressors.methods.tt.svd import balanced, decompose
from embpress.compressors.methods.tt.write_back import write_back
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.row_cache import RowCache, in_training_step
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, options_like, relative_error
from embpress.kernels import ops

EVICT = ("drop", "write-back")


@register("tt")
class TTRec(Compressor):
    """Row `i` with digits `i_1 … i_d` is `G_1[i_1] G_2[i_2] … G_d[i_d]`, core k of shape `(R_{k-1}, p_k, q_k, R_k)`.

    The cores are kept with the row digit first, `(p_k, R_{k-1}, q_k, R_k)`.

    Args:
        rank: TT rank, or `d - 1` ranks (`16x32` in a spec); default 32.
        num_cores: number of cores d, 2 to 4.
        init: `sampled-gaussian` (the paper's), `gaussian`, `uniform`, all with the table's variance `1/(3n)`, or
            `sampled-gaussian-fbtt`, the published code's scale.
        row_factors: factors `p` with `prod p >= n`; default: even, with little padding.
        column_factors: factors `q` with `prod q = D`; default: even, the largest last.
        store: keep the partial products of a training step's forward for its backward instead of making them again; no
            difference on CUDA, where they stay on the chip.
        math: on CUDA, how float32 products of large batches are made: `fp32`, or on tensor cores `tf32` (10 bits of
            mantissa) or `split-tf32` (nearly float32's). The CPU takes `fp32`.
        cache_rows, cache_fraction: keep so many of the most frequent rows, or this share of all (the paper: 0.0001),
            uncompressed; 0: none. Call `maintain` after each backward (`embpress.compressors.maintain` does it for a
            whole model), so that rows which enter start with fresh optimizer state.
        warmup: training steps before rows enter for the first time.
        refresh: training steps from one change of the cached rows to the next.
        evict: what becomes of a row that leaves: `drop` (the paper's: its learned value is lost) or `write-back`
            (least squares on its last core's slice).
    """

    tags: ClassVar[Tags] = Tags(for_budget=True, from_dense=True, maintain=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("rank",)
    row_parameters: ClassVar[tuple[str, ...]] = ("cache.values",)
    training_knobs: ClassVar[tuple[str, ...]] = ("init", "store", "math", "warmup", "refresh", "evict")
    lookup_op: ClassVar[str] = "tt_embedding_bag"
    group = TTGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        rank: int | tuple[int, ...] = 32,
        num_cores: int = 3,
        init: str = "sampled-gaussian",
        row_factors: tuple[int, ...] | None = None,
        column_factors: tuple[int, ...] | None = None,
        store: bool = False,
        math: str = "fp32",
        cache_rows: int = 0,
        cache_fraction: float = 0.0,
        warmup: int = 100,
        refresh: int = 1000,
        evict: str = "drop",
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        check_init(init)
        self.row_factors, self.column_factors = factors(
            num_embeddings, embedding_dim, num_cores, row_factors, column_factors
        )
        given = (rank,) if isinstance(rank, int) else rank
        if len(given) not in ((1,) if isinstance(rank, int) else (num_cores - 1,)) or min(given) < 1:
            raise InputError(
                f"tt: rank={rank} must be one positive rank, or {num_cores - 1} of them for {num_cores} cores"
            )
        self.ranks = core_ranks(rank, self.row_factors, self.column_factors)
        self.rank, self.num_cores, self.init, self.store, self.math = rank, num_cores, init, store, math
        if math not in ops.MATH:
            raise InputError(f"tt: math={math!r} is not one of {', '.join(ops.MATH)}")
        self.cores = nn.ParameterList(
            torch.empty(
                p, self.ranks[k], q, self.ranks[k + 1], device=options.get("device"), dtype=options.get("dtype")
            )
            for k, (p, q) in enumerate(zip(self.row_factors, self.column_factors))
        )
        self.cache_rows = rows_to_cache(num_embeddings, cache_rows, cache_fraction)
        self.warmup, self.refresh, self.evict = warmup, refresh, evict
        if warmup < 1 or refresh < 1:
            raise InputError(f"tt: warmup={warmup} and refresh={refresh} must be at least one training step")
        if evict not in EVICT:
            raise InputError(f"tt: evict={evict!r} is not one of {', '.join(EVICT)}")
        self.cache: RowCache | None = None
        if self.cache_rows:
            self.cache = RowCache(
                self.cache_rows,
                embedding_dim,
                warmup=warmup,
                refresh=refresh,
                device=options.get("device"),
                dtype=options.get("dtype"),
            )
        self.reset_parameters(options.get("generator"))

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws the cores by the named initialisation and empties the cache."""
        if self.cores[0].device.type == "meta":
            return
        init_cores(list(self.cores), self.num_embeddings, self.init, generator)
        if self.cache is not None:
            self.cache.reset()

    def knobs(self) -> dict[str, object]:
        """Rank, number of cores, initialisation and shapes as resolved."""
        return {
            "rank": self.rank,
            "num_cores": self.num_cores,
            "init": self.init,
            "row_factors": self.row_factors,
            "column_factors": self.column_factors,
            **({"store": True} if self.store else {}),
            **({"math": self.math} if self.math != "fp32" else {}),
            **(
                {"cache_rows": self.cache_rows, "warmup": self.warmup, "refresh": self.refresh, "evict": self.evict}
                if self.cache_rows
                else {}
            ),
        }

    def arrays(self) -> tuple[Array, ...]:
        """The cores' slices, one a row digit, and the cached rows."""
        ranks, shapes = self.ranks, zip(self.row_factors, self.column_factors)
        cores = tuple(
            Array(f"cores.{k}", p, ranks[k] * q * ranks[k + 1], ranges="row") for k, (p, q) in enumerate(shapes)
        )
        return cores if self.cache is None else (*cores, Array("cache.values", self.cache_rows, self.embedding_dim))

    def assembly_key(self) -> tuple[Any, ...]:
        """Cores of one form; a cache has an index of its own."""
        return self.ranks, self.column_factors, 0 if self.cache is None else id(self)

    def group_key(self) -> tuple[Any, ...]:
        """One call has one number of cores and one way to multiply."""
        return *super().group_key(), self.num_cores, self.store, self.math

    # --- the cache ----------------------------------------------------------------------------------------------------

    def _learns(self, ids: Tensor) -> bool:
        """Whether these lookups are a training step's: not those of a frozen table, nor of a recomputed forward."""
        return (
            self.cache is not None
            and self.training
            and in_training_step(self, (self.cache.values, *self._cores()), ids)
        )

    def _refresh(self) -> None:
        """Before a training step's lookups: lets the most frequent rows in, where it is time."""
        if self.cache is not None and self.cache.due():
            self.cache.update(self._from_cores, self._write_back if self.evict == "write-back" else None)

    def _count(self, ids: Tensor) -> None:
        """After a training step's lookups."""
        if self.padding_idx is not None:
            ids = ids.masked_fill(ids == self.padding_idx, -1)  # which is not counted
        assert self.cache is not None
        self.cache.count(ids)

    def _from_cores(self, ids: Tensor) -> Tensor:
        return ops.tt_embedding_bag(
            self._cores(), ids.view(-1, 1), num_embeddings=(self.num_embeddings,), num_cores=self.num_cores
        ).squeeze(1)

    def _write_back(self, ids: Tensor, values: Tensor) -> None:
        write_back(self._cores(), ids, values)

    def _cache(self, weighted: bool = False) -> tuple[Tensor, ...]:
        """The op's three tensors, without elements where there is no cache."""
        if self.cache is not None:
            index, ids, values = self.cache.tensors(weighted)
            return index, ids, values
        core = self._cores()[0]
        ids = core.new_empty(0, dtype=torch.int64)
        return ids.int(), ids, core.new_empty(0, self.embedding_dim)

    def uncompressed(self, ids: Tensor) -> Tensor | None:
        """Which ids are cached."""
        return None if self.cache is None else self.cache.holds(ids)

    def cells(self, ids: Tensor) -> Cells:
        """A slice of each core; of cached rows none."""
        parts = [CellPart(f"cores.{k}", p, places=p) for k, p in enumerate(self.row_factors)]
        found, cached = Cells.of(parts, torch.stack(slices(ids, self.row_factors), dim=1)), self.uncompressed(ids)
        return found if cached is None else found.without(cached)

    def fill_cache(self, ids: Tensor) -> None:
        """Caches these rows now, as the cores have them: distinct ids `(K,)` int64, at most `cache_rows`."""
        if self.cache is None or ids.dim() != 1 or len(ids) > self.cache_rows:
            raise InputError(f"tt: the cache holds {self.cache_rows} rows, not ids of shape {tuple(ids.shape)}")
        rows = self.alone.integers.on(ids.device, "rows")
        self.cache.fill(ops.check_ids(ids, rows), self._from_cores)

    def maintain(self, step: int | None = None) -> dict[str, Tensor]:
        """Rows of parameters that hold something else since the last call, by the parameter's name.

        Call it after the backward and before the optimizer's step; the state of these rows then starts anew. `step` is
        for methods that keep no count of their own.
        """
        rows = None if self.cache is None else self.cache.entered()
        return {} if rows is None else {"cache.values": rows}

    def _drop_training_state(self) -> None:
        if self.cache is not None:
            self.cache.drop_counts()

    def _serving(self) -> list[Entry]:
        counting = {"cache.keys", "cache.counts", "cache.steps", "cache.filled", "cache.used"}
        return [entry for entry in self._weights() if entry.name not in counting]

    def _activation_bytes(self, batch_size: int) -> int:
        """Rows, the plan of the batch (int32), and with `store` the partial products before the last core.

        On CUDA partial products stay on the chip. A small batch has no plan there; it is counted all the same.
        """
        grouped = max(1, self.num_cores - 2)  # the core whose digit groups the lookups
        groups = self.row_factors[grouped]
        if self.cores[0].is_cuda:
            plan = 4 * (5 * batch_size + 2 * groups + self.cache_rows + 2)
        else:
            plan = 4 * (batch_size * (3 + self.num_cores + (self.cache is not None)) + 2 * groups + 1)
        partial = 0
        if self.store and self.num_cores > 2 and not self.cores[0].is_cuda:
            widest = 64 // self.itemsize  # elements of a vector: pieces are padded to whole ones, and rows by one more
            pieces = math.prod(self.column_factors[:grouped])
            padded = -(-self.ranks[-2] // widest) * widest
            partial = pieces * (self.column_factors[grouped] * padded + widest) * self.itemsize
        return batch_size * (8 + self.embedding_dim * self.itemsize + partial) + plan

    def _cores(self) -> list[Tensor]:
        # not through the modules' own access, which takes longer than a small batch
        held: Any = self._modules["cores"]
        cores: list[Tensor] = list(held._parameters.values())
        if len(cores) != self.num_cores or held._forward_pre_hooks:  # nobody would call what computes them
            raise InputError("tt: cores cannot be pruned or parametrized, the op reads them as they are")
        return cores

    @classmethod
    def tuned_knobs(cls, embedding_dim: int, **fixed: Any) -> Mapping[str, tuple[Any, ...]]:
        """What the cores are drawn from (the paper's section 3.2), the published code's larger scale first."""
        return {"init": tuple(name for name in reversed(INITS) if name != INITS[0])}

    @classmethod
    def serving_size(cls, num_embeddings: int, embedding_dim: int, **knobs: Any) -> int:
        """`4 Σ R_{k-1} p_k q_k R_k` bytes, and those of the cache."""
        num_cores, rank = knobs.get("num_cores", 3), knobs.get("rank", 32)
        row_factors, column_factors = factors(
            num_embeddings, embedding_dim, num_cores, knobs.get("row_factors"), knobs.get("column_factors")
        )
        cached = rows_to_cache(num_embeddings, knobs.get("cache_rows", 0), knobs.get("cache_fraction", 0.0))
        return 4 * num_parameters(
            row_factors, column_factors, core_ranks(rank, row_factors, column_factors)
        ) + serving_bytes(cached, embedding_dim)

    @classmethod
    def for_budget(
        cls,
        n: int,
        dim: int,
        size: int,
        *,
        num_cores: int = 3,
        init: str = "sampled-gaussian",
        row_factors: tuple[int, ...] | None = None,
        column_factors: tuple[int, ...] | None = None,
        cache_rows: int = 0,
        cache_fraction: float = 0.0,
        **others: Any,
    ) -> dict[str, int]:
        """The largest rank whose cores, with the cache, fit into `size` bytes; other knobs take no bytes."""
        cache_rows = rows_to_cache(n, cache_rows, cache_fraction)

        shape = {"num_cores": num_cores, "row_factors": row_factors, "column_factors": column_factors}

        def total(rank: int) -> int:
            return cls.serving_size(n, dim, rank=rank, cache_rows=cache_rows, **shape)

        return {"rank": largest_rank(total, size, f"{n} rows of width {dim}")}

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
        num_cores: int = 3,
        init: str = "sampled-gaussian",
        row_factors: tuple[int, ...] | None = None,
        column_factors: tuple[int, ...] | None = None,
        cache_rows: int = 0,
        cache_fraction: float = 0.0,
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
            num_cores, init, row_factors, column_factors: as in the constructor; `init` only matters to
                `reset_parameters`.
            cache_rows, cache_fraction: as in the constructor; the budget and the ratio count the cache, which starts
                empty.
            **options: other knobs of the cache, and those of `TableOptions`; device and dtype are the table's own by
                default.

        Returns:
            The table, trainable, and `‖lookups - weight‖ / ‖weight‖` over the n rows, measured.

        Raises:
            InputError: more than one of the four, or a table, tolerance or shape that does not fit.
            BudgetError: rank 1, with the cache, takes more than the budget.
        """
        table = DenseRows(weight)
        n, dim = table.shape
        given = options_like(table, cls, options)
        device, dtype = given["device"], given["dtype"]
        row_factors, column_factors = factors(n, dim, num_cores, row_factors, column_factors)
        least = num_parameters(row_factors, column_factors, (1,) * (num_cores + 1))
        cached = rows_to_cache(n, cache_rows, cache_fraction)
        beside = serving_bytes(cached, dim, dtype.itemsize)
        wanted = goal(dtype, 4 * n * dim, least, beside, rank=rank, tolerance=tolerance, budget=budget, ratio=ratio)
        given["cache_rows"] = cached
        plain = {**given, "device": "meta"}  # what the constructor refuses is refused before the work
        shape: dict[str, Any] = {"num_cores": num_cores, "row_factors": row_factors, "column_factors": column_factors}
        cls(n, dim, rank=1 if rank is None else rank, init=init, **shape, **plain)
        found = balanced(decompose(table, row_factors, column_factors, device, **wanted))
        ranks = tuple(core.shape[3] for core in found[:-1])
        made = cls(n, dim, rank=ranks, init=init, **shape, **given)
        for core, values in zip(made.cores, found):
            core.copy_(values)
        widest = max(core[0].numel() for core in made.cores)  # a lookup gathers a slice of each core
        return made, relative_error(made, table, chunk=max(256, (1 << 20) // max(widest, dim)))

    def to_full(self) -> Full:
        """The table written out to serve, `(n, D)`: lookups equal up to rounding, nothing left to multiply."""
        return Full.serving(self, self.to_dense())
